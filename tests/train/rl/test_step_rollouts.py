"""Steps of made-up episodes: what is drawn, kept and saved, and what a resume finds of it."""

import json
import random
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from envs.records import Episode, Segment, StopReason
from rewards.advantages import score_group
from rewards.metrics import step_metrics
from tests.envs.world import CHAT, TASK
from tests.rewards.episodes import make_episode, sampled_event
from tests.train.small_run import settings_in
from train.config.settings import Settings
from train.rl.checkpoints import rewind_to_checkpoint
from train.rl.grpo_trainer import StepRequest
from train.rl.resampling import group_episodes
from train.rl.solve_counts import read_solves
from train.rl.step_rollouts import StepRollouts
from train.rollouts.runner import EpisodeRequest, RolloutRunner
from train.stages.open_stage import open_stage
from train.stages.progress import Progress
from train.stages.run_dir import StageDir


@pytest.mark.parametrize("num_steps", [0, 3, 40], ids=["nothing", "before the onset", "long"])
def test_a_resume_finds_the_pressure_as_it_was(num_steps: int, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--reward.pressure=controlled")
    stage = open_stage(settings, "grpo")
    rng, flagged = random.Random(0), {13, 25}
    with Progress("test", total=1, unit="steps", enabled=False) as progress:
        lived = StepRollouts(settings, None, stage, progress)  # type: ignore[arg-type]
        for step in range(1, num_steps + 1):
            rate = 0.3 if step < 12 else 0.8
            group = [
                make_episode(turns=((50, rng.randrange(9, 99)),), solved=rng.random() < rate)
                for _ in range(64)
            ]
            scores = score_group(group, cost_weight=lived.scoring.controller.weight)
            stage.write_episodes(step, group)
            metrics = step_metrics([group], [scores])
            stage.append_metrics({"step": step, **metrics})
            lived.end_step(group, metrics)
            if step in flagged:
                lived.scoring.halve_cost_weight()
        solves = stage.path / "solves.json"
        solves.unlink(missing_ok=True)
        resumed = StepRollouts(
            settings,
            None,
            stage,
            progress,
            dropped_after=flagged,  # type: ignore[arg-type]
        )
    assert resumed.scoring.controller == lived.scoring.controller
    assert sum(each.samples for each in read_solves(stage).values()) == 64 * num_steps
    if num_steps == 40:
        assert lived.scoring.controller.reference is not None, "the controller was at work"


NUM_STEPS, EVERY = 6, 2
SIGNAL = ("--grpo.resample=2", "--grpo.curriculum=true")
FURTHER = ("--grpo.groups_per_step=4", "--grpo.group_size=2", "--reward.advantage=default")
TRAIN = [TASK.model_copy(update={"id": f"t{number}"}) for number in range(9)]


class Killed(Exception):
    """Stands for the end of the process."""


class MadeUp(StepRollouts):
    """Rollouts of episodes that depend on nothing but request and version; killed if asked."""

    def __init__(
        self,
        settings: Settings,
        stage: StageDir,
        *,
        killed_at: int = -1,
        dropped_after: Collection[int] = (),
    ) -> None:
        store = SimpleNamespace(split=lambda name: TRAIN)
        with Progress("test", total=1, unit="steps", enabled=False) as progress:
            runner = RolloutRunner(store, CHAT, settings, bench=None)  # type: ignore[arg-type]
            super().__init__(settings, runner, stage, progress, dropped_after=dropped_after)
        self.num_calls, self.killed_at = 0, killed_at

    def play(
        self, requests: Sequence[EpisodeRequest], model: Any, *, step: int, what: str
    ) -> list[Episode]:
        self.num_calls += 1
        if self.num_calls == self.killed_at:
            raise Killed
        return [_make(request, version=step) for request in requests]

    def train(self, first: int = 0) -> list[list[list[Segment]]]:
        """Go through the steps as the trainer does, with checkpoints; returns their rows."""
        batches = []
        for step in range(first, NUM_STEPS):
            batch = self(StepRequest(step, 0, 4), None)
            batches.append([list(rows) for rows in batch.minibatches])
            self._stage.append_metrics({"step": step + 1, **batch.metrics})
            if (step + 1) % EVERY == 0:
                path = self._stage.checkpoints / f"checkpoint-{step + 1}"
                path.mkdir(parents=True)
                (path / "trainer_state.json").write_text(json.dumps({"global_step": step + 1}))
        return batches


def _make(request: EpisodeRequest, *, version: int) -> Episode:
    rng = random.Random(f"{request.seed} {version}")
    solved = rng.random() < int(request.task_id[1:]) / 9  # the first never, others more and more
    made = make_episode(
        turns=((50, 20),),
        solved=solved,
        task_id=request.task_id,
        stop_reason=StopReason.SUBMITTED if solved or rng.random() < 0.5 else StopReason.TURN_LIMIT,
        sample_index=request.sample_index,
        events=[sampled_event((0,) * 20)],
    )
    update = {"group_id": request.group_id, "seed": request.seed, "policy_version": version}
    return made.model_copy(update=update)


def _begin(folder: Path, *flags: str) -> tuple[Settings, StageDir]:
    settings = settings_in(folder, *FURTHER, f"--grpo.max_steps={NUM_STEPS}", *flags)
    return settings, open_stage(settings, "grpo")


def _files(stage: StageDir) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in stage.episodes.iterdir()}
    for path in (stage.metrics, stage.path / "solves.json"):
        found[path.name] = path.read_bytes()
    return found


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_run_killed_at_any_moment_ends_like_the_undisturbed_one(
    staleness: int, tmp_path: Path
) -> None:
    flags = (*SIGNAL, f"--rollouts.max_staleness={staleness}")
    settings, stage = _begin(tmp_path / "whole", *flags)
    undisturbed = MadeUp(settings, stage)
    expected = undisturbed.train()
    undisturbed.forget_ahead(before=NUM_STEPS)
    assert undisturbed.num_calls > 1.3 * NUM_STEPS, "groups were replaced"
    for moment in range(1, undisturbed.num_calls + 1):
        settings, stage = _begin(tmp_path / str(moment), *flags)
        with pytest.raises(Killed):
            MadeUp(settings, stage, killed_at=moment).train()
        rewind_to_checkpoint(stage, resume=True)
        first = len(stage.read_metrics())
        resumed = MadeUp(settings, stage)
        assert resumed.train(first) == expected[first:]
        resumed.forget_ahead(before=NUM_STEPS)
        assert _files(stage) == _files(undisturbed._stage)


@pytest.mark.parametrize(
    ("size", "num"), [(4, 4), (3, 4), (2, 2), (2, 3), (2, 8), (4, 2), (8, 1)]
)  # fmt: skip
def test_a_resume_that_wants_other_groups_plays_them_anew(
    size: int, num: int, tmp_path: Path
) -> None:
    stale = (*SIGNAL, "--rollouts.max_staleness=1")
    settings, stage = _begin(tmp_path, *stale)
    with pytest.raises(Killed):
        MadeUp(settings, stage, killed_at=8).train()
    rewind_to_checkpoint(stage, resume=True)
    step = len(stage.read_metrics())
    assert f"ahead_{step:05d}" in stage.list_episodes()
    flags = (*stale, f"--grpo.group_size={size}", f"--grpo.groups_per_step={num}")
    settings = settings_in(tmp_path, *FURTHER, f"--grpo.max_steps={NUM_STEPS}", *flags)
    batch = MadeUp(settings, stage)(StepRequest(step, 0, num), None)
    groups = group_episodes(stage.read_episodes(step + 1))
    assert [len(group) for group in groups] == [size] * num
    assert all(len({each.task_id for each in group}) == 1 for group in groups)
    assert sum(map(len, batch.minibatches)) == size * num
    assert batch.metrics["staleness"] == 0


@pytest.mark.parametrize("staleness", [0, 1])
def test_every_episode_is_saved_once_and_told_how_old_it_is(staleness: int, tmp_path: Path) -> None:
    settings, stage = _begin(tmp_path, *SIGNAL, f"--rollouts.max_staleness={staleness}")
    rollouts = MadeUp(settings, stage)
    batches = rollouts.train()
    rollouts.forget_ahead(before=NUM_STEPS)
    assert not stage.list_episodes("ahead_")
    num_played, rows = 0, stage.read_metrics()
    for step, (row, (minibatch,)) in enumerate(zip(rows, batches, strict=True)):
        kept = stage.read_episodes(step + 1)
        name = f"dropped_{step + 1:05d}"
        dropped = stage.read_episodes(name) if name in stage.list_episodes() else []
        age = min(step, staleness)
        assert {each.policy_version for each in (*kept, *dropped)} == {step - age}
        assert {each.staleness for each in minibatch} == {age}
        assert row.get("staleness", 0) == age
        assert {each.episode_id for each in minibatch} == {
            f"{each.group_id}/{each.sample_index}" for each in kept
        }
        assert len(kept) == 8 == len(minibatch)
        assert row["num_episodes"] == len(kept) + len(dropped)
        assert row["resample/num_groups_replaced"] == len(dropped) / 2
        assert row["resample/billed_tokens_dropped"] == 70 * len(dropped)
        played = {f"grpo/{step}/{place}" for place in range(4 + len(dropped) // 2)}
        assert {each.group_id for each in (*kept, *dropped)} == played
        num_played += len(kept) + len(dropped)
    assert sum(each.samples for each in read_solves(stage).values()) == num_played
    assert num_played > 8 * NUM_STEPS


def test_shares_of_several_ranks_make_the_step_of_one(tmp_path: Path) -> None:
    settings, stage = _begin(tmp_path, *SIGNAL)
    whole = MadeUp(settings, stage)(StepRequest(0, 0, 4), None).minibatches[0]
    parts = []
    for first in (0, 2):
        rank = StageDir(tmp_path / str(first), "grpo")
        rank.path.mkdir()
        batch = MadeUp(settings, rank)(StepRequest(0, first, 2), None)
        parts += batch.minibatches[0]
    assert parts == list(whole)


def test_masked_episodes_leave_the_loss_and_stay_in_the_baseline(tmp_path: Path) -> None:
    found = {}
    for overlong in ("keep", "mask"):
        settings, stage = _begin(tmp_path / overlong, f"--grpo.overlong={overlong}")
        batch = MadeUp(settings, stage)(StepRequest(0, 0, 4), None)
        found[overlong] = {each.episode_id: each for each in batch.minibatches[0]}
        share = batch.metrics["share_masked"]
    episodes = {f"{each.group_id}/{each.sample_index}": each for each in stage.read_episodes(1)}
    done = {k for k, each in episodes.items() if each.stop_reason == StopReason.SUBMITTED}
    assert 0 < len(done) < len(episodes) == 8
    assert share == 1 - len(done) / 8
    assert set(found["keep"]) == set(episodes)
    assert found["mask"] == {name: found["keep"][name] for name in done}
