"""Our rows and our loop against stock TRL and plain torch: log-probs and gradients, in fp32.

Not the loss: on policy its value does not depend on the model. The stock trainer runs its own
pipeline as one batch (its `rollout_func`, rewards, baseline, padding, denominator and reference).
"""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from trl import GRPOTrainer
from trl.trainer.utils import pad

from envs.records import Segment
from tests.train import tiny_policy
from tests.train.tiny_policy import GROUP_SIZE, always, gradients, relative_difference
from train.rl.grpo_trainer import RolloutBatch

NUM_GROUPS = 3
BOUND = 1e-5  # of the norm of all gradients


def first_sampled(row: Segment) -> int:
    return row.loss_mask_T.index(1)


def stock_trainer(
    model: PeftModel, folder: Path, rows: list[Segment], **overrides: Any
) -> GRPOTrainer:
    """Return stock TRL that 'generates' the given rows and rewards each with its advantage."""

    def rollout(prompts: list[str], _: GRPOTrainer) -> dict[str, Any]:
        assert len(prompts) == len(rows)
        starts = [first_sampled(row) for row in rows]
        pairs = list(zip(rows, starts, strict=True))
        return {
            "prompt_ids": [list(row.token_ids_T[:start]) for row, start in pairs],
            "completion_ids": [list(row.token_ids_T[start:]) for row, start in pairs],
            "logprobs": [list(row.sampling_logps_T[start:]) for row, start in pairs],
            "env_mask": [list(row.loss_mask_T[start:]) for row, start in pairs],
        }

    return GRPOTrainer(
        model,
        reward_funcs=lambda **_: [row.advantage for row in rows],
        args=tiny_policy.config(folder, num_groups=NUM_GROUPS, **overrides),
        train_dataset=Dataset.from_list(tiny_policy.step_inputs(NUM_GROUPS)),
        processing_class=tiny_policy.tokenizer(),
        rollout_func=rollout,
    )


def stock_gradients(
    trainer: GRPOTrainer, rows: list[Segment], *, old_logps: bool
) -> dict[str, torch.Tensor]:
    """Return the gradients of stock TRL on the rows as one batch."""
    trainer.current_gradient_accumulation_steps = 1  # set by train() in the stock trainer
    trainer.model.train()
    batch = trainer._generate_and_score_completions(tiny_policy.step_inputs(NUM_GROUPS))
    assert batch["completion_ids"].shape[0] == len(rows)
    if old_logps:
        logps = [torch.tensor(row.sampling_logps_T[first_sampled(row) :]) for row in rows]
        batch["old_per_token_logps"] = pad(logps, padding_value=0.0)
    trainer.accelerator.backward(trainer.compute_loss(trainer.model, batch))
    return gradients(trainer.model)


def perturbed(rows: list[Segment], model: PeftModel) -> list[Segment]:
    """Return the rows with sampling log-probs around the model's own, some beyond every clip."""
    generator = random.Random(7)
    changed = []
    for row in rows:
        logps = [0.0, *reference_logps(model, row.token_ids_T).tolist()]
        noisy = [
            bit * min(-1e-3, logp + generator.choice([-2.0, -0.1, 0.1, 0.5]))
            for bit, logp in zip(row.loss_mask_T, logps, strict=True)
        ]
        changed.append(row.model_copy(update={"sampling_logps_T": tuple(noisy)}))
    return changed


def reference_logps(model: PeftModel, ids: tuple[int, ...]) -> torch.Tensor:
    """Return log p(id_t | ids before t) for t = 1.., by plain torch on one unpadded row."""
    ids_T = torch.tensor(ids)
    logps_TV = model(input_ids=ids_T[None]).logits[0, :-1].log_softmax(-1)
    return logps_TV.gather(-1, ids_T[1:, None])[:, 0]


CASES = [
    pytest.param("dapo", 0.0, False, 10_000, id="dapo"),
    pytest.param("dapo", 0.0, False, 90, id="dapo-chunks"),
    pytest.param("dapo", 0.0, False, 1, id="dapo-row-by-row"),
    pytest.param("cispo", 0.0, False, 90, id="cispo-chunks"),
    pytest.param("dapo", 0.0, True, 90, id="dapo-old-logps-chunks"),
    pytest.param("cispo", 0.0, True, 10_000, id="cispo-old-logps"),
    pytest.param("dapo", 0.1, False, 90, id="dapo-kl-chunks"),
    pytest.param("cispo", 0.1, True, 150, id="cispo-kl-old-logps-chunks"),
]


@pytest.mark.parametrize(("loss_type", "beta", "old_logps", "tokens"), CASES)
def test_gradients_equal_stock_trl(
    tmp_path: Path, loss_type: str, beta: float, old_logps: bool, tokens: int
) -> None:
    model = tiny_policy.policy()
    rows = tiny_policy.groups_of_rows(NUM_GROUPS)
    if old_logps:
        rows = perturbed(rows, model)
    values = {"loss_type": loss_type, "beta": beta, "epsilon_high": None}
    if loss_type == "cispo":
        values["epsilon_high"] = 1.5  # so that some ratios are clamped
    stock = stock_trainer(copy.deepcopy(model), tmp_path / "stock", rows, **values)
    ours = tiny_policy.trainer(
        model,
        tmp_path / "ours",
        always(rows),
        num_groups=NUM_GROUPS,
        tokens_per_microbatch=tokens,
        old_logps="sampling" if old_logps else "detach",
        **values,
    )
    if beta:  # the adapter has moved away from its reference
        for trainer in (stock, ours):
            with torch.no_grad():
                for parameter in tiny_policy.trainable(trainer.model).values():
                    parameter.mul_(1.5)
    expected = stock_gradients(stock, rows, old_logps=old_logps)
    ours.training_step(ours.model, tiny_policy.step_inputs(NUM_GROUPS), None)
    assert all(gradient.norm() > 0 for gradient in expected.values())
    difference = relative_difference(gradients(ours.model), expected)
    print(f"relative difference {difference:.2e}")
    assert difference < BOUND
    if old_logps:
        name = "clip_ratio/region_mean" if loss_type == "dapo" else "cispo_clip_ratio"
        assert stock._metrics["train"][name] > [0.0]


@pytest.mark.parametrize("tokens", [90, 10_000])
def test_per_token_logps_equal_stock_trl_and_plain_torch(tmp_path: Path, tokens: int) -> None:
    model = tiny_policy.policy()
    rows = tiny_policy.groups_of_rows(NUM_GROUPS)
    ours = tiny_policy.trainer(
        model, tmp_path, always(rows), num_groups=NUM_GROUPS, tokens_per_microbatch=tokens
    )
    stock = stock_trainer(copy.deepcopy(model), tmp_path / "stock", rows)
    batch = stock._generate_and_score_completions(tiny_policy.step_inputs(NUM_GROUPS))
    stock_logps, mask_BT = scored(stock, batch), batch["completion_mask"] * batch["tool_mask"]
    with torch.no_grad():
        expected = {
            row.token_ids_T: reference_logps(model, row.token_ids_T)[
                torch.tensor(row.loss_mask_T[1:]).bool()
            ]
            for row in rows
        }
    for row, logps, mask in zip(rows, stock_logps, mask_BT, strict=True):
        torch.testing.assert_close(logps[mask.bool()], expected[row.token_ids_T])
    chunks = ours._prepare_inputs(tiny_policy.step_inputs(NUM_GROUPS))
    num_rows = 0
    for chunk in chunks:
        ids_BT = torch.cat([chunk["prompt_ids"], chunk["completion_ids"]], dim=1)
        lengths = torch.cat([chunk["prompt_mask"], chunk["completion_mask"]], dim=1).sum(1)
        for index, logps in enumerate(scored(ours, chunk)):
            ids = tuple(ids_BT[index, : lengths[index]].tolist())
            torch.testing.assert_close(logps[chunk["tool_mask"][index].bool()], expected[ids])
            num_rows += 1
    assert num_rows == len([row for row in rows if row.advantage])


def scored(trainer: GRPOTrainer, batch: dict[str, Any]) -> torch.Tensor:
    ids_BT = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask_BT = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    num_scored = batch["completion_ids"].shape[1]
    with torch.no_grad():
        return trainer._get_per_token_logps_and_entropies(
            trainer.model, ids_BT, mask_BT, num_scored
        )[0]


@pytest.mark.parametrize("tokens", [60, 10_000])
@pytest.mark.parametrize("loss_type", ["dapo", "cispo"])
def test_segments_give_the_gradients_of_their_turns_one_by_one(
    tmp_path: Path, loss_type: str, tokens: int
) -> None:
    """Each turn alone, under its own context, without padding; one advantage for all segments."""
    generator = random.Random(3)
    cuts = {
        "a": [[20, 5, 7, 6], [13, 4], [15, 3, 2, 8, 4, 6]],
        "b": [[18, 9]],
        "c": [[9, 2], [7, 7]],
    }
    advantages = {"a": 0.75, "b": -0.5, "c": -0.25}
    rows = [
        tiny_policy.row(generator, advantage=advantages[name], spans=spans, episode_id=name)
        for name, segments in cuts.items()
        for spans in segments
    ]
    model = tiny_policy.policy()
    by_hand = copy.deepcopy(model)
    num_tokens = sum(sum(spans[1::2]) for segments in cuts.values() for spans in segments)
    num_turns = 0
    for (name, spans), row in zip(
        [(name, spans) for name, segments in cuts.items() for spans in segments], rows, strict=True
    ):
        for turn in range(len(spans) // 2):
            start, end = sum(spans[: 2 * turn + 1]), sum(spans[: 2 * turn + 2])
            logps_T = reference_logps(by_hand, row.token_ids_T[:end])[start - 1 :]
            (-advantages[name] * logps_T.sum() / num_tokens).backward()
            num_turns += 1
    assert num_turns == 9
    ours = tiny_policy.trainer(
        model, tmp_path, always(rows), tokens_per_microbatch=tokens, loss_type=loss_type
    )
    ours.training_step(ours.model, tiny_policy.step_inputs(2), None)
    difference = relative_difference(gradients(model), gradients(by_hand))
    print(f"relative difference {difference:.2e}")
    assert difference < BOUND


def test_rows_without_loss_and_the_other_groups_tokens(tmp_path: Path) -> None:
    """Fillers add nothing; tokens of groups without signal count in the denominator only."""
    rows = tiny_policy.groups_of_rows(NUM_GROUPS)
    signal = [row for row in rows if row.advantage]
    num_tokens = sum(sum(row.loss_mask_T) for row in rows)
    found = []
    for fed in (rows, signal, [*signal, *fillers(tmp_path, rows)]):
        model = tiny_policy.policy()
        batch = RolloutBatch(fed, num_tokens)
        ours = tiny_policy.trainer(model, tmp_path, lambda *_, batch=batch: batch)
        ours.training_step(ours.model, tiny_policy.step_inputs(2), None)
        found.append(gradients(model))
    assert relative_difference(found[1], found[0]) < BOUND
    assert relative_difference(found[2], found[0]) < BOUND


def fillers(folder: Path, rows: list[Segment]) -> list[Segment]:
    """Return fillers as a rank adds them, with an advantage that would matter if they had loss."""
    filler = tiny_policy.trainer(tiny_policy.policy(), folder, always(rows))._filler(rows)
    assert not any(filler.loss_mask_T)
    assert filler.token_ids_T in [row.token_ids_T for row in rows]
    return [filler.model_copy(update={"advantage": 1.0})] * 3


def test_groups_here_match_their_size() -> None:
    rows = tiny_policy.groups_of_rows(NUM_GROUPS)
    assert len(rows) == NUM_GROUPS * GROUP_SIZE
    assert any(row.advantage == 0.0 for row in rows)
