"""Packed rows hold each token once, in order; they give the gradients of rows one by one."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from envs.records import Segment
from tests.train import tiny_policy
from tests.train.tiny_policy import always, gradients, relative_difference, step_inputs
from train.rl.packed_rows import can_pack, lay_out_packed, let_attend
from train.rl.segments import LEAST_SHARED
from train.rollouts.kv_cache import count_shared

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CPU = torch.device("cpu")
BLOCK = LEAST_SHARED // 2  # two of them are shared
blocks = st.lists(st.integers(1, 2), max_size=4)  # of few kinds, so that rows begin alike
tails = st.lists(st.integers(3, 5), min_size=1, max_size=3)


def padded(rows: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


@given(st.lists(st.tuples(blocks, tails), min_size=1, max_size=6))
def test_each_row_is_found_whole_and_in_order_and_each_token_sees_its_row(
    drawn: list[tuple[list[int], list[int]]],
) -> None:
    rows = sorted((*(kind for kind in kinds for _ in range(BLOCK)), *end) for kinds, end in drawn)
    ids_BT, mask_BT = padded(rows)
    layout = lay_out_packed(ids_BT, mask_BT)
    (packed,), (positions,) = layout.inputs["input_ids"], layout.inputs["position_ids"]
    num_found = 0
    for row, places in zip(rows, layout.places_BT, strict=True):
        assert tuple(packed[places[: len(row)]].tolist()) == row
        assert positions[places[: len(row)]].tolist() == list(range(len(row)))
    for each in layout.inputs["packed_rows"]:
        path = [at for start, stop in each.spans for at in range(start, stop)]
        num_found += each.num_own
        assert path[-each.num_own :] == list(range(num_found - each.num_own, num_found))
        assert positions[path].tolist() == list(range(len(path)))
        sees = torch.ones(len(path), len(path)).tril()[-each.num_own :]
        assert each.mask is None or torch.equal(each.mask, sees.bool())
        assert (each.mask is None) == (each.num_own == len(path))
    assert num_found == len(packed) <= sum(map(len, rows))


def group_rows() -> list[Segment]:
    """Return two groups with a prompt each, one row of which begins another, and a long odd one.

    The second group has an episode of two segments that share a sampled turn as well.
    """
    generator = random.Random(1)

    def ids(size: int) -> tuple[int, ...]:
        return tuple(generator.randrange(62) for _ in range(size))

    def row(parts: list[tuple[int, ...]], advantage: float) -> Segment:
        """Parts are prompts and samples by turns."""
        mask = [index % 2 for index, part in enumerate(parts) for _ in part]
        return Segment(
            episode_id="",
            token_ids_T=tuple(token for part in parts for token in part),
            loss_mask_T=tuple(mask),
            sampling_logps_T=tuple(-3.0 * bit for bit in mask),
            advantage=advantage,
        )

    first, second, turn = ids(70), ids(90), ids(10)
    whole = [first, ids(12), ids(20), ids(9)]
    return [
        row(whole, 0.5),
        row(whole[:2], -0.25),
        row([first, ids(30)], -0.25),
        row([second, turn, ids(15), ids(7)], 0.75),
        row([second, turn, ids(40), ids(5)], 0.75),
        row([second, ids(3)], -1.5),
        row([ids(150), ids(40)], 1.0),
    ]


@pytest.mark.parametrize(
    ("beta", "form", "checkpointing"),
    [
        pytest.param(0.1, "token_truncate", False, id="kl-weights"),
        pytest.param(0.0, "off", True, id="checkpointing"),
    ],
)
def test_gradients_equal_those_of_rows_one_by_one(
    tmp_path: Path, beta: float, form: str, checkpointing: bool
) -> None:
    rows, found, scored = group_rows(), [], []
    ways: list[tuple[bool, int]] = [(False, 1), (True, 300), (True, 10_000), (False, 10_000)]
    for packs, tokens in ways:
        model = tiny_policy.policy()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        trainer = tiny_policy.trainer(
            model,
            tmp_path,
            always(rows),
            tokens_per_microbatch=tokens,
            importance=form,
            packs=packs,
            beta=beta,
        )
        widths: list[int] = []
        embed = trainer.model.get_input_embeddings()
        embed.register_forward_hook(lambda _m, args, _o, w=widths: w.append(args[0].numel()))
        trainer.training_step(trainer.model, step_inputs(2), None)
        found.append(gradients(trainer.model))
        scored.append(sum(widths))
    for each in found[1:]:
        assert relative_difference(each, found[0]) < 1e-5
    whole = sum(len(row.token_ids_T) for row in rows)
    passes = 2 if beta else 1  # the reference's
    assert scored[0] == passes * whole
    in_order = sorted(row.token_ids_T for row in rows)
    shared = [count_shared(*pair) for pair in pairwise(in_order)]
    shared = [num for num in shared if num >= LEAST_SHARED]
    assert len(shared) == 4 and sum(shared) >= 82 + 70 + 100 + 90
    assert scored[2] == passes * (whole - sum(shared)), "shared tokens are computed once"
    assert scored[2] < scored[1] < scored[0] < scored[3]


def made(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(Qwen2Config(**SMALL), id="qwen2"),
        pytest.param(Qwen3Config(**SMALL, head_dim=8), id="qwen3"),
        pytest.param(LlamaConfig(**SMALL), id="llama"),
        pytest.param(MistralConfig(**SMALL, sliding_window=None), id="mistral"),
    ],
)
def test_hidden_states_of_other_families_are_those_of_their_rows_alone(config: Any) -> None:
    model = made(config)
    assert can_pack(model, CPU)
    let_attend(model)
    rows = sorted(row.token_ids_T for row in group_rows())
    layout = lay_out_packed(*padded(rows))
    with torch.no_grad():
        (packed,) = model.base_model(**layout.inputs).last_hidden_state
        for row, places in zip(rows, layout.places_BT, strict=True):
            (alone,) = model.base_model(input_ids=torch.tensor([row])).last_hidden_state
            torch.testing.assert_close(packed[places[: len(row)]], alone, rtol=1e-4, atol=1e-5)


def test_other_layers_and_kernels_get_rows_of_their_own() -> None:
    assert not can_pack(made(MistralConfig(**SMALL, sliding_window=16)), CPU)
    assert not can_pack(AutoModelForCausalLM.from_config(MambaConfig(num_hidden_layers=1)), CPU)
    eager = AutoModelForCausalLM.from_config(Qwen2Config(**SMALL), attn_implementation="eager")
    assert not can_pack(eager, CPU)
    assert not can_pack(made(Qwen2Config(**SMALL)), torch.device("cuda"))
