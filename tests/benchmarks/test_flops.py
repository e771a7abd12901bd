"""Operations are those that torch counts, with a head at few positions and keys of long prompts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from benchmarks.flops import count_flops, count_keys, share_of_peak


def make_model(*, tied: bool) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=640,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("num_before", "num_new"), [(0, 256), (255, 1)])
def test_a_prompt_and_a_token_take_what_torch_counts(
    tied: bool, num_before: int, num_new: int
) -> None:
    model = make_model(tied=tied)
    ids, cache = torch.ones(1, 256, dtype=torch.long), DynamicCache()
    if num_before:
        model(ids[:, :num_before], past_key_values=cache)
    with FlopCounterMode(display=False) as counter:
        model(ids[:, num_before:], past_key_values=cache, logits_to_keep=1)
    found = count_flops(
        model.config,
        sum(each.numel() for each in model.parameters()),
        num_tokens=num_new,
        num_scored=1,
        num_keys=num_new * (num_before + num_new),  # eager attention computes what it masks
    )
    assert found == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_each_token_attends_to_those_before_it_and_itself() -> None:
    assert count_keys(3) == 1 + 2 + 3
    assert count_keys(2, num_before=10) == 11 + 12


def test_long_prompts_cost_their_attention_and_the_head_only_once() -> None:
    shape = make_model(tied=True).config
    numbers = {"num_parameters": 10**6, "num_tokens": 1000, "num_keys": count_keys(1000)}
    once = count_flops(shape, **numbers, num_scored=1)
    assert count_flops(shape, **numbers, num_scored=1000) - once == 2 * 999 * 640 * 64
    assert count_flops(shape, **numbers, num_scored=1, passes=3) > 3 * once


def test_a_device_that_is_not_listed_has_no_peak() -> None:
    assert share_of_peak(989e12, 2.0, "NVIDIA H100 80GB HBM3") == 0.5
    assert share_of_peak(1.0, 1.0, "CPU") is None
