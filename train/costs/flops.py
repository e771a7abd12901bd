"""The operations that reading and sampling take at least: matrix products and attention.

    flops = count_flops(shape, num_new=4096, num_scored=1)
    flops.attention, flops.products, flops.total

Norms, rotations, sampling and what states compute are not counted, nor is what is computed for
padding or behind a mask. Tests: tests/train/costs/test_flops.py compares with what torch counts.
"""

from dataclasses import dataclass

from train.costs.shape import ModelShape


@dataclass(frozen=True)
class Flops:
    """Operations: of products with weights, and of attention over keys and values."""

    products: float
    attention: float

    @property
    def total(self) -> float:
        """Both."""
        return self.products + self.attention

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.products + other.products, self.attention + other.attention)


def count_flops(
    shape: ModelShape,
    *,
    num_new: int,
    num_before: int = 0,
    num_rows: int = 1,
    num_scored: int = 0,
    num_adapted: int = 0,
    passes: int = 1,
) -> Flops:
    """Return the operations of one forward pass, or of one and its backward.

    A product takes 2 operations per parameter and token, attention 2 per feature of a query and
    key it meets, and of a value. A pass is a forward one, or what costs as much: of the backward
    the gradients of activations (twice as much in attention), a recomputation. Frozen weights get
    no gradient. What is looked up is no operation, and the head is not computed again.

    Args:
        shape: The model, with its parameters.
        num_new: Tokens of a row that are computed.
        num_before: Tokens before them, whose keys and values are there.
        num_rows: Rows that are computed alike.
        num_scored: Tokens, over all rows, for which the head gives logits.
        num_adapted: Parameters of an adapter beside the model's own.
        passes: 1, or 2, or 3 if activations are computed again.
    """
    assert shape.parameters is not None, "a shape of keys and values alone has no operations"
    used, head = shape.parameters.used + num_adapted, shape.parameters.head
    products = 2.0 * (used * num_rows * num_new * passes + head * num_scored * min(2, passes))
    attention = (
        2.0
        * num_rows
        * sum(
            layer.attended
            * count_keys(
                num_new,
                num_before=num_before,
                most=None if layer.window is None else layer.window + 1,
            )
            for layer in shape.layers
        )
    )
    return Flops(products, attention * (passes + 1 if passes > 1 else 1))


def count_keys(num_new: int, *, num_before: int = 0, most: int | None = None) -> float:
    """Return to how many keys tokens attend, each to itself and to `most` - 1 before it, or all."""
    growing = num_new if most is None else min(num_new, max(0, most - num_before))
    keys = growing * (num_before + (growing + 1) / 2)
    return keys + (num_new - growing) * (most or 0)
