"""The operations that a measured row takes at least, and their share of a card's peak.

    flops = count_flops(model.config, num_parameters, num_tokens=..., num_scored=..., num_keys=...)
    share_of_peak(flops, seconds, device_name)

Counted are matrix products and attention. Norms, rotations and sampling are not, nor is what is
computed for padding. Tests: tests/benchmarks/test_flops.py compares with what torch counts.
"""

from typing import Any

PEAK_FLOPS = {  # dense bf16 of a card whose name holds the word
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "4090": 165e12,
}


def count_flops(
    shape: Any,
    num_parameters: int,
    *,
    num_tokens: int,
    num_scored: int,
    num_keys: float,
    passes: int = 1,
) -> float:
    """Return the operations of one forward pass, or of one and its backward.

    A pass is a forward one, or what costs as much: of the backward the gradients of activations
    (twice as much in attention), a recomputation. Frozen weights get no gradient. What is looked up
    is no operation, and the head is not computed again.

    Args:
        shape: A Transformers config, of layers of attention.
        num_parameters: All of the model's, embeddings and adapter included.
        num_tokens: That are computed.
        num_scored: Of these, those for which the head gives logits.
        num_keys: Keys that they attend to, summed over tokens (`count_keys`).
        passes: 1, or 2, or 3 if activations are computed again.
    """
    head = shape.vocab_size * shape.hidden_size
    layers = num_parameters - head * (1 if shape.tie_word_embeddings else 2)
    width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    attention = 4.0 * shape.num_hidden_layers * shape.num_attention_heads * width * num_keys
    products = 2.0 * (layers * num_tokens * passes + head * num_scored * min(2, passes))
    return float(products + attention * (passes + 1 if passes > 1 else 1))


def count_keys(num_new: int, *, num_before: int = 0) -> float:
    """Return to how many keys tokens attend, each to itself and all before it."""
    return num_new * (num_before + (num_new + 1) / 2)


def share_of_peak(flops: float, seconds: float, device_name: str) -> float | None:
    """Return the share of the card's peak, None of a device that is not listed."""
    peaks = [peak for word, peak in PEAK_FLOPS.items() if word in device_name]
    return flops / seconds / peaks[0] if peaks else None
