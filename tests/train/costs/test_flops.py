"""Operations are those that torch counts: few scored positions, long prompts, windows, experts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache

from tests.train.costs.tiny_configs import CONFIGS, SIZE
from train.costs.cards import share_of_peak
from train.costs.flops import count_flops, count_keys
from train.costs.shape import config_of_numbers, measure_shape

TOKENS = 256


KINDS = ["shared heads", "tied", "experts", "all sliding"]
SIZES = [(0, TOKENS), (TOKENS - 1, 1)]
CASES = [(kind, *size) for kind in KINDS for size in SIZES] + [("latent", 0, TOKENS)]


@pytest.mark.parametrize(("name", "num_before", "num_new"), CASES)
def test_a_prompt_and_a_token_take_what_torch_counts(
    name: str, num_before: int, num_new: int
) -> None:
    """Eager attention computes what a mask hides; behind latents torch expands all of them anew."""
    config, shape = CONFIGS[name], measure_shape(CONFIGS[name])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.set_experts_implementation("batched_mm")  # torch does not count grouped products
    ids, cache = torch.ones(1, TOKENS, dtype=torch.long), DynamicCache(config=config)
    with torch.no_grad():
        if num_before:
            model(ids[:, :num_before], past_key_values=cache)
        with FlopCounterMode(display=False) as counter:
            model(ids[:, num_before:], past_key_values=cache, logits_to_keep=1)
    found = count_flops(shape, num_new=num_new, num_before=num_before, num_scored=1)
    per_key = 2 * sum(layer.attended for layer in shape.layers)
    masked = per_key * num_new * (num_before + num_new) if num_new > 1 else found.attention
    assert found.products + masked == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_each_token_attends_to_those_before_it_and_itself() -> None:
    assert count_keys(3) == 1 + 2 + 3
    assert count_keys(2, num_before=10) == 11 + 12
    assert count_keys(4, most=2) == 1 + 2 + 2 + 2
    assert count_keys(3, num_before=1, most=3) == 2 + 3 + 3
    assert count_keys(3, num_before=9, most=2) == count_keys(1, num_before=1) * 3
    assert count_keys(5, most=99) == count_keys(5)


def test_windows_end_what_attention_grows_by() -> None:
    shape = measure_shape(CONFIGS["all sliding"])
    one, two = (count_flops(shape, num_new=tokens).attention for tokens in (1000, 2000))
    assert two / one == pytest.approx(2, rel=0.01)


def test_attention_grows_with_the_square_and_the_whole_far_less() -> None:
    llama_70b = config_of_numbers(
        layers=80, kv_heads=8, head_dim=128, heads=64, width=8192, mlp=28672, vocab=128256
    )
    shape = measure_shape(llama_70b)
    short, middle, long = (
        count_flops(shape, num_new=tokens * 1024, num_scored=1) for tokens in (4, 32, 128)
    )
    assert round(middle.attention / short.attention) == 64
    assert round(long.attention / short.attention) == 1024
    assert middle.total / short.total == pytest.approx(10.1, abs=0.05)
    assert long.total / short.total == pytest.approx(69.4, abs=0.05)


def test_the_head_and_an_adapter_are_computed_where_they_are_asked_for() -> None:
    shape = measure_shape(CONFIGS["tied"])
    once = count_flops(shape, num_new=1000, num_scored=1)
    head = SIZE["vocab_size"] * SIZE["hidden_size"]
    assert count_flops(shape, num_new=1000, num_scored=1000).total - once.total == 2 * 999 * head
    assert count_flops(shape, num_new=1000, num_scored=1, passes=3).total > 3 * once.total
    adapted = count_flops(shape, num_new=1000, num_scored=1, num_adapted=77)
    assert adapted.products - once.products == 2 * 77 * 1000
    rows = count_flops(shape, num_new=1000, num_rows=3, num_scored=3)
    assert rows == once + once + once


def test_a_device_that_is_not_listed_has_no_peak() -> None:
    assert share_of_peak(989e12, 2.0, "NVIDIA H100 80GB HBM3") == 0.5
    assert share_of_peak(835e12, 1.0, "NVIDIA H100 NVL") == 1.0
    assert share_of_peak(1.0, 1.0, "CPU") is None
