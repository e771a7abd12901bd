"""The trainer's own work: sizes, order of tasks, micro-batches, skipped steps, resume, metrics."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import TrainerCallback
from trl import GRPOConfig

from envs.errors import UserError
from tests.train import tiny_policy
from tests.train.rl.rows import num_sampled_tokens
from tests.train.tiny_policy import GROUP_SIZE, always, groups_of_rows, snapshot, step_inputs
from train.config.trl_arguments import TrlArguments
from train.rl.grpo_arguments import REQUIRED_ARGS
from train.rl.grpo_trainer import RolloutBatch, StepRequest, make_step_dataset


def changed(before: dict[str, torch.Tensor], model: PeftModel) -> set[str]:
    after = snapshot(model)
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss_type", "dr_grpo"), ("gradient_accumulation_steps", 2), ("entropy_coef", 0.1)],
)
def test_arguments_that_depend_on_the_cut_are_refused(
    tmp_path: Path, name: str, value: Any
) -> None:
    args = tiny_policy.config(tmp_path)
    setattr(args, name, value)
    with pytest.raises(UserError, match=str(value)):
        trainer_with(args)


def trainer_with(args: GRPOConfig) -> None:
    tiny_policy.MultiSegmentGRPOTrainer(
        tiny_policy.policy(),
        args=args,
        train_dataset=make_step_dataset(num_steps=1, groups_per_step=1),
        processing_class=tiny_policy.tokenizer(),
        rollouts=always([]),
        tokens_per_microbatch=100,
    )


@pytest.mark.parametrize(("loss_type", "epsilon_high"), [("dapo", 0.28), ("cispo", 5.0)])
def test_the_upper_clip_is_explicit(tmp_path: Path, loss_type: str, epsilon_high: float) -> None:
    args = tiny_policy.config(tmp_path, loss_type=loss_type)
    assert (args.epsilon, args.epsilon_high) == (0.2, epsilon_high)


def test_extra_arguments_win_and_cannot_touch_what_is_required(tmp_path: Path) -> None:
    args = tiny_policy.config(tmp_path, loss_type="cispo", warmup_steps=7.0, weight_decay=0.1)
    assert (args.loss_type, args.epsilon_high, args.warmup_steps) == ("cispo", 5.0, 7.0)
    assert args.weight_decay == 0.1
    passed = REQUIRED_ARGS.keys() & TrlArguments.__annotations__.keys()
    assert not passed


def test_steps_request_whole_groups_one_after_the_other(tmp_path: Path) -> None:
    requests = []

    def rollouts(request: StepRequest, model: Any) -> RolloutBatch:
        requests.append(request)
        return RolloutBatch([[]])

    trainer = tiny_policy.trainer(tiny_policy.policy(), tmp_path, rollouts, num_groups=3)
    trainer.train()
    assert [request.step for request in requests] == [0, 1, 2, 3]
    assert {(request.first_group, request.num_groups) for request in requests} == {(0, 3)}


def test_a_mixed_group_changes_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    model = tiny_policy.policy()
    before = snapshot(model)
    rows = groups_of_rows(1 + 1)
    tiny_policy.trainer(model, tmp_path, always(rows), max_steps=1).train()
    assert changed(before, model) == set(tiny_policy.trainable(model))


@pytest.mark.parametrize("after_signal", [False, True], ids=["first-step", "with-momentum"])
def test_without_signal_nothing_changes(tmp_path: Path, after_signal: bool) -> None:
    model = tiny_policy.policy()
    silent = [row for row in groups_of_rows(2) if row.advantage == 0.0]
    states = []

    def rollouts(request: StepRequest, model: Any) -> RolloutBatch:
        states.append(snapshot(model))
        rows = groups_of_rows(2) if request.step == 0 and after_signal else silent
        return RolloutBatch([rows])

    trainer = tiny_policy.trainer(model, tmp_path, rollouts, max_steps=3)
    trainer.train()
    assert bool(changed(states[0], model)) == after_signal
    assert not changed(states[1], model)
    assert trainer.state.global_step == 3
    assert trainer.state.log_history[2]["num_microbatches"] == 0


def test_rows_without_advantage_are_kept_when_the_kl_needs_them(tmp_path: Path) -> None:
    rows = groups_of_rows(2)
    for beta, expected in ((0.0, len([row for row in rows if row.advantage])), (0.1, len(rows))):
        trainer = tiny_policy.trainer(tiny_policy.policy(), tmp_path, always(rows), beta=beta)
        (chunks,) = trainer._prepare_inputs(step_inputs(2))
        assert sum(len(chunk["advantages"]) for chunk in chunks) == expected


def test_metrics_do_not_depend_on_the_micro_batches(tmp_path: Path) -> None:
    rows = groups_of_rows(2)
    found = []
    for tokens in (1, 10_000):
        batch = RolloutBatch([rows], {"pass_rate": 0.25})
        trainer = tiny_policy.trainer(
            tiny_policy.policy(),
            tmp_path,
            lambda *_, batch=batch: batch,
            tokens_per_microbatch=tokens,
            importance="token_truncate",
            max_steps=1,
        )
        trainer.train()
        found.append(trainer.state.log_history[0])
    one_by_one, together = found
    assert one_by_one["num_microbatches"] == len([row for row in rows if row.advantage])
    assert together["num_microbatches"] == 1
    assert together["pass_rate"] == 0.25
    assert {"seconds/rollout", "seconds/learn", "grad_norm", "loss"} <= together.keys()
    names = [name for name in together if name.startswith(("entropy", "clip", "loss", "grad"))]
    assert len(names) == 8
    for name in names:
        assert one_by_one[name] == pytest.approx(together[name], rel=1e-4), name


def test_the_mismatch_is_measured_before_the_first_update(tmp_path: Path) -> None:
    """So neither the number of updates nor the micro-batches change it."""
    groups = [groups_of_rows(2, seed=seed) for seed in (0, 1)]
    together = [row for rows in groups for row in rows]
    found = []
    for tokens, parts in ((10_000, [together]), (90, [together]), (90, groups)):
        trainer = tiny_policy.trainer(
            tiny_policy.policy(),
            tmp_path,
            always(*parts),
            tokens_per_microbatch=tokens,
            importance="token_truncate",
            max_steps=1,
        )
        trainer.train()
        row = trainer.state.log_history[0]
        found.append({n: v for n, v in row.items() if n.startswith(("mismatch", "sampling"))})
        assert row["num_sampled_tokens"] == num_sampled_tokens(together)
    assert len(found[0]) == 7
    assert found[0]["sampling/share_bounded"] > 0.1 < found[0]["mismatch_kl"]
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_stale_tokens_are_weighed_like_others_and_told_apart(tmp_path: Path) -> None:
    fresh = groups_of_rows(2)
    stale = [row.model_copy(update={"staleness": 1}) for row in fresh]
    trained, found = [], []
    for rows in (fresh, stale, [*fresh[::2], *stale[1::2]]):
        model = tiny_policy.policy()
        options = {"importance": "token_truncate", "max_steps": 1, "warmup_steps": 0}
        trainer = tiny_policy.trainer(model, tmp_path, always(rows), **options)
        trainer.train()
        trained.append(tiny_policy.trainable(model))
        found.append(trainer.state.log_history[0])
    assert max(tiny_policy.relative_difference(each, trained[0]) for each in trained) < 1e-6
    of_fresh, of_stale, of_both = found
    assert "stale/kl" not in of_fresh
    assert "mismatch_kl" not in of_stale, "the alarm looks at it"
    assert of_stale["stale/kl"] == pytest.approx(of_fresh["mismatch_kl"], rel=1e-6)
    assert {"stale/kl", "mismatch_kl"} <= of_both.keys()


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_an_update_without_signal_is_skipped_and_the_others_are_made(
    bf16: bool, tmp_path: Path
) -> None:
    """The pass before the first update computes as the loss does, so nothing has moved for it."""
    rows = groups_of_rows(2)
    signal, silent = rows[:GROUP_SIZE], rows[GROUP_SIZE:]
    trained, norms = [], []
    for parts in ([signal], [silent, signal], [signal, silent], [silent, signal, silent]):
        model = tiny_policy.policy()
        trainer = tiny_policy.trainer(model, tmp_path, always(*parts), max_steps=2, bf16=bf16)
        trainer.train()
        trained.append(tiny_policy.trainable(model))
        norms.append(trainer.state.log_history[0]["grad_norm"])
    for found in trained[1:]:
        assert tiny_policy.relative_difference(found, trained[0]) < 1e-6
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-4), "the largest of a step's updates"
    assert norms[0] > 0


def test_no_pass_holds_the_logits_of_whole_rows(tmp_path: Path) -> None:
    """Not the one before the first update, nor that of the reference, nor those of updates."""
    vocab_size = 70_000
    rows = groups_of_rows(1)  # without signal, but the reference needs them
    trainer = tiny_policy.trainer(
        tiny_policy.policy(vocab_size=vocab_size), tmp_path, always(rows, rows), beta=0.1
    )
    trainer.create_optimizer()
    with LargestTensor() as seen:
        trainer.training_step(trainer.model, step_inputs(1), None)
    lengths = [len(row.token_ids_T) for row in rows]
    assert seen.size < len(lengths) * max(lengths) * vocab_size / 2


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation returned in one tensor."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
        self.size = max([self.size, *(each.numel() for each in tensors)])
        return made


def test_several_updates_keep_to_the_schedule_of_steps(tmp_path: Path) -> None:
    rows = groups_of_rows(2)
    trainer = tiny_policy.trainer(
        tiny_policy.policy(), tmp_path, always(rows, rows, rows), warmup_steps=4
    )
    made: list[float] = []
    trainer.add_callback(CountUpdates(made))
    trainer.train()
    assert trainer.state.global_step == 4
    rates = [row["learning_rate"] for row in trainer.state.log_history[:-1]]
    assert rates == pytest.approx([0.0, 0.0025, 0.005, 0.0075])
    assert made == [rate for rate in rates for _ in range(3)]


class CountUpdates(TrainerCallback):
    """Notes the learning rate of each update."""

    def __init__(self, made: list[float]) -> None:
        self.made = made

    def on_train_begin(self, *_: Any, optimizer: Any = None, **__: Any) -> None:
        def note(inner: torch.optim.Optimizer, *_: Any) -> None:
            self.made.append(inner.param_groups[0]["lr"])

        optimizer.optimizer.register_step_post_hook(note)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path, beta: float) -> None:
    whole, parts = tiny_policy.policy(), tiny_policy.policy()
    asked: dict[str, list[StepRequest]] = {"whole": [], "parts": []}

    def rollouts(name: str) -> Any:
        def roll(request: StepRequest, model: Any) -> RolloutBatch:
            asked[name].append(request)
            return RolloutBatch([groups_of_rows(2, seed=2 * request.step + n) for n in (0, 1)])

        return roll

    tiny_policy.trainer(whole, tmp_path / "a", rollouts("whole"), beta=beta).train()
    first = tiny_policy.trainer(parts, tmp_path / "b", rollouts("parts"), beta=beta)
    first.args.max_steps = 2  # interrupted: the dataset is still that of the whole run
    first.train()
    resumed = tiny_policy.policy()  # the adapter as warm-started: reference and start in one
    second = tiny_policy.trainer(resumed, tmp_path / "b", rollouts("parts"), beta=beta)
    second.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-2"))
    assert asked["parts"] == asked["whole"]
    assert second.state.global_step == 4
    assert not changed(snapshot(whole), resumed)
    assert bool(beta) == any(".ref." in name for name in snapshot(resumed))


def test_training_under_bf16_autocast_keeps_the_adapter_in_fp32(tmp_path: Path) -> None:
    model = tiny_policy.policy()
    before = snapshot(model)
    seen = []

    def rollouts(_: StepRequest, acting: Any) -> RolloutBatch:
        assert acting is model and not model.training
        with torch.no_grad():
            ids = torch.arange(8)[None]
            seen.append(model.get_base_model()(input_ids=ids).logits.dtype)
            hidden = model.get_base_model().model(input_ids=ids).last_hidden_state
            seen.append(hidden.dtype)
        rows = groups_of_rows(2)
        return RolloutBatch([rows])

    tiny_policy.trainer(model, tmp_path, rollouts, bf16=True, max_steps=2).train()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert changed(before, model) == set(tiny_policy.trainable(model))
    assert set(seen) == {torch.float32}  # rollouts through the base model are not autocast
