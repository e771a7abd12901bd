"""Our rows and our loop against stock TRL and plain torch: log-probs and gradients, in fp32.

Not the loss: on policy its value does not depend on the model. The stock trainer runs its own
pipeline as one batch (its `rollout_func`, rewards, baseline, padding, denominator, reference, and
its importance weights).
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

from envs.records import Segment
from tests.train import tiny_policy
from tests.train.rl.rows import num_sampled_tokens
from tests.train.tiny_policy import GROUP_SIZE, always, gradients, relative_difference
from train.rl.importance import MOST_WEIGHT
from train.rl.segments import make_filler

NUM_GROUPS = 4
BOUND = 1e-5  # of the norm of all gradients


def first_sampled(row: Segment) -> int:
    return row.loss_mask_T.index(1)


def stock_trainer(
    model: PeftModel, folder: Path, rows: list[Segment], *, form: str = "off", **overrides: Any
) -> GRPOTrainer:
    """Return stock TRL that 'generates' the given rows and rewards each with its advantage.

    With a form of weights it corrects as it does for vLLM.
    """

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

    num_groups = len(rows) // GROUP_SIZE
    trainer = GRPOTrainer(
        model,
        reward_funcs=lambda **_: [row.advantage for row in rows],
        args=tiny_policy.config(folder, num_groups=num_groups, **overrides),
        train_dataset=Dataset.from_list(tiny_policy.step_inputs(num_groups)),
        processing_class=tiny_policy.tokenizer(),
        rollout_func=rollout,
    )
    if form != "off":
        trainer.use_vllm = True
        trainer._last_loaded_step = trainer.state.global_step  # there is no server to send to
        trainer.vllm_importance_sampling_mode = form
        trainer.vllm_importance_sampling_clip_max = MOST_WEIGHT
    trainer.current_gradient_accumulation_steps = 1  # set by train() in the stock trainer
    trainer.model.train()
    return trainer


def stock_batch(trainer: GRPOTrainer, *, is_first: bool = True) -> dict[str, Any]:
    """Return what stock TRL trains on; later updates compare with the policy as it is now."""
    inputs = tiny_policy.step_inputs(trainer.args.generation_batch_size // GROUP_SIZE)
    batch = trainer._generate_and_score_completions(inputs)
    if not is_first:
        batch["old_per_token_logps"] = scored(trainer, batch)
    return batch


def stock_gradients(trainer: GRPOTrainer, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the gradients of stock TRL on its rows as one batch."""
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
    pytest.param("dapo", 0.0, "off", 10_000, id="dapo"),
    pytest.param("dapo", 0.0, "off", 90, id="dapo-chunks"),
    pytest.param("dapo", 0.0, "off", 1, id="dapo-row-by-row"),
    pytest.param("cispo", 0.0, "off", 90, id="cispo-chunks"),
    pytest.param("dapo", 0.1, "off", 90, id="dapo-kl-chunks"),
    pytest.param("dapo", 0.0, "token_truncate", 90, id="dapo-weights-chunks"),
    pytest.param("cispo", 0.1, "token_truncate", 10_000, id="cispo-kl-weights"),
    pytest.param("dapo", 0.1, "token_mask", 150, id="dapo-kl-mask-chunks"),
    pytest.param("cispo", 0.0, "token_mask", 90, id="cispo-mask-chunks"),
]


@pytest.mark.parametrize(("loss_type", "beta", "form", "tokens"), CASES)
def test_gradients_of_two_updates_equal_stock_trl(
    tmp_path: Path, loss_type: str, beta: float, form: str, tokens: int
) -> None:
    """Stock TRL sees the second one's rows before the first, and has its weights for its loss."""
    model = tiny_policy.policy()
    parts = minibatches(perturbed(tiny_policy.groups_of_rows(NUM_GROUPS), model))
    values = {"loss_type": loss_type, "beta": beta, "max_grad_norm": 1e9, "learning_rate": 0.05}
    if loss_type == "cispo":
        values["epsilon_high"] = 1.05  # so that some ratios are clamped
    stocks = [
        stock_trainer(copy.deepcopy(model), tmp_path / "stock", rows, form=form, **values)
        for rows in parts
    ]
    ours = tiny_policy.trainer(
        model,
        tmp_path / "ours",
        always(*parts),
        num_groups=NUM_GROUPS,
        tokens_per_microbatch=tokens,
        importance=form,
        **values,
    )
    if beta:  # the adapter has moved away from its reference
        for trainer in (*stocks, ours):
            with torch.no_grad():
                for parameter in tiny_policy.trainable(trainer.model).values():
                    parameter.mul_(1.5)
    batches = [stock_batch(stock, is_first=stock is stocks[0]) for stock in stocks]
    found = two_updates(ours)
    expected = [stock_gradients(stocks[0], batches[0])]
    move(stocks[1].model, model)
    expected.append(stock_gradients(stocks[1], batches[1]))
    differences = [relative_difference(*pair) for pair in zip(found, expected, strict=True)]
    print("relative differences", differences)
    # the divergence grows exponentially with log-probs, so do the differences of their rounding
    bound = 3 * BOUND if beta else BOUND
    assert all(gradient.norm() > 0 for each in expected for gradient in each.values())
    assert max(differences) < bound
    name = "clip_ratio/region_mean" if loss_type == "dapo" else "cispo_clip_ratio"
    assert stocks[0]._metrics["train"][name] == [0.0] < stocks[1]._metrics["train"][name]
    if form != "off":
        weights = batches[1]["importance_sampling_ratio"]
        assert weights.max() == MOST_WEIGHT or (form == "token_mask" and weights.min() == 0)


def minibatches(rows: list[Segment]) -> list[list[Segment]]:
    """Return the rows of two updates: of every second group."""
    starts = range(0, len(rows), GROUP_SIZE)
    groups = [rows[start : start + GROUP_SIZE] for start in starts]
    return [[row for group in groups[part::2] for row in group] for part in (0, 1)]


def move(model: PeftModel, to: PeftModel) -> PeftModel:
    """Return the first model with the adapter of the second."""
    with torch.no_grad():
        for name, parameter in tiny_policy.trainable(model).items():
            parameter.copy_(tiny_policy.trainable(to)[name])
    return model


def two_updates(trainer: Any) -> list[dict[str, torch.Tensor]]:
    """Make the first update of a step; return its gradients and those of the second."""
    trainer.create_optimizer()
    found = []
    trainer.optimizer.register_step_pre_hook(lambda *_: found.append(gradients(trainer.model)))
    trainer.training_step(trainer.model, tiny_policy.step_inputs(1), None)
    return [*found, gradients(trainer.model)]


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
    (chunks,) = ours._prepare_inputs(tiny_policy.step_inputs(NUM_GROUPS))
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
@pytest.mark.parametrize("form", ["off", "token_truncate", "token_mask"])
def test_segments_give_the_gradients_of_their_turns_one_by_one(
    tmp_path: Path, form: str, loss_type: str, tokens: int
) -> None:
    """Each turn alone, under its own context, without padding; one advantage for all segments.

    As the formulas say, in the first update and in a second one on the same episodes. Tokens of one
    row have weights of their own.
    """
    generator = random.Random(3)
    cuts = {
        "a": [[20, 5, 7, 6], [13, 4], [15, 3, 2, 8, 4, 6]],
        "b": [[18, 9]],
        "c": [[9, 2], [7, 7]],
    }
    advantages = {"a": 0.75, "b": -0.5, "c": -0.25}
    model = tiny_policy.policy()
    rows = [
        tiny_policy.row(generator, advantage=advantages[name], spans=spans, episode_id=name)
        for name, segments in cuts.items()
        for spans in segments
    ]
    rows = perturbed(rows, model)
    weights = tuple(0.5 + at // 10 for at in range(len(rows[0].token_ids_T)))
    rows[0] = rows[0].model_copy(update={"weights_T": weights})
    before = copy.deepcopy(model)
    ours = tiny_policy.trainer(
        model,
        tmp_path,
        always(rows, rows),
        tokens_per_microbatch=tokens,
        importance=form,
        **{"loss_type": loss_type, "max_grad_norm": 1e9, "learning_rate": 0.05},
    )
    found = two_updates(ours)
    clips = (ours.args.epsilon, ours.args.epsilon_high)
    after = move(copy.deepcopy(before), model)
    for now, ours_now in zip((before, after), found, strict=True):
        expected = by_hand(now, before, rows, form=form, loss_type=loss_type, clips=clips)
        difference = relative_difference(ours_now, expected)
        print(f"relative difference {difference:.2e}")
        assert difference < BOUND
    other = {"dapo": "cispo", "cispo": "dapo"}[loss_type]
    differs = by_hand(after, before, rows, form=form, loss_type=other, clips=clips)
    assert relative_difference(differs, found[1]) > 0.01, "the second update tells them apart"


def by_hand(
    model: PeftModel,
    proximal: PeftModel,
    rows: list[Segment],
    *,
    form: str,
    loss_type: str,
    clips: tuple[float, float],
) -> dict[str, torch.Tensor]:
    """Return the gradients of the formulas, turn by turn in plain torch."""
    model.zero_grad()
    num_turns, num_tokens = 0, sum(sum(row.loss_mask_T) for row in rows)
    for row in rows:
        bits = [*row.loss_mask_T, 0]
        edges = [at for at in range(1, len(bits)) if bits[at] != bits[at - 1]]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            ids = row.token_ids_T[:end]
            old_T = reference_logps(proximal, ids)[start - 1 :].detach()
            logps_T = reference_logps(model, ids)[start - 1 :]
            weights_T = (old_T - torch.tensor(row.sampling_logps_T[start:end])).exp()
            if form == "off":
                weights_T = torch.ones_like(old_T)
            elif form == "token_mask":
                weights_T[weights_T > 2] = 0
            own_T = torch.tensor(row.weights_T[start:end] or (1.0,) * (end - start))
            advantages_T = row.advantage * own_T * weights_T.clamp(max=2)
            ratios_T = (logps_T - old_T).exp()
            if loss_type == "cispo":
                gains_T = ratios_T.clamp(max=clips[1]).detach() * advantages_T * logps_T
            else:
                clipped_T = ratios_T.clamp(1 - clips[0], 1 + clips[1])
                gains_T = torch.min(ratios_T * advantages_T, clipped_T * advantages_T)
            (-gains_T.sum() / num_tokens).backward()
            num_turns += 1
    assert num_turns == 9
    return gradients(model)


def test_rows_without_loss_and_the_other_groups_tokens(tmp_path: Path) -> None:
    """Fillers add nothing; tokens of groups without signal count in the denominator only."""
    rows = tiny_policy.groups_of_rows(NUM_GROUPS)
    signal = [row for row in rows if row.advantage]
    found = []
    for fed in (rows, [*rows, *fillers(rows)], signal):
        model = tiny_policy.policy()
        ours = tiny_policy.trainer(model, tmp_path, always(fed))
        ours.training_step(ours.model, tiny_policy.step_inputs(2), None)
        found.append(gradients(model))
    assert relative_difference(found[1], found[0]) < BOUND
    share = num_sampled_tokens(signal) / num_sampled_tokens(rows)
    scaled = {name: gradient * share for name, gradient in found[2].items()}
    assert relative_difference(scaled, found[0]) < BOUND


def fillers(rows: list[Segment]) -> list[Segment]:
    """Return fillers as a rank adds them, with an advantage that would matter if they had loss."""
    filler = make_filler(rows, end_id=0)
    assert not any(filler.loss_mask_T)
    assert filler.token_ids_T in [row.token_ids_T for row in rows]
    return [filler.model_copy(update={"advantage": 1.0})] * 3


def test_groups_here_match_their_size() -> None:
    rows = tiny_policy.groups_of_rows(NUM_GROUPS)
    assert len(rows) == NUM_GROUPS * GROUP_SIZE
    assert any(row.advantage == 0.0 for row in rows)
