"""What a resume rebuilds of the steps before it."""

import random
from pathlib import Path

import pytest

from rewards.advantages import score_group
from rewards.metrics import step_metrics
from tests.rewards.episodes import make_episode
from tests.train.small_run import settings_in
from train.rl.solve_counts import read_solves
from train.rl.step_rollouts import StepRollouts
from train.stages.open_stage import open_stage
from train.stages.progress import Progress


@pytest.mark.parametrize("num_steps", [0, 3, 40], ids=["nothing", "before the cap", "long"])
def test_a_resume_finds_cap_and_pressure_as_they_were(num_steps: int, tmp_path: Path) -> None:
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
            scores = score_group(group, cost_weight=lived.controller.weight, sampled_cap=None)
            stage.write_episodes(step, group)
            metrics = step_metrics([group], [scores])
            stage.append_metrics({"step": step, **metrics})
            lived.end_step(group, metrics)
            if step in flagged:
                lived.halve_cost_weight()
        solves = stage.path / "solves.json"
        solves.unlink(missing_ok=True)
        resumed = StepRollouts(
            settings,
            None,
            stage,
            progress,
            dropped_after=flagged,  # type: ignore[arg-type]
        )
    assert resumed.controller == lived.controller
    assert resumed.cap == lived.cap
    assert sum(each.samples for each in read_solves(stage).values()) == 64 * num_steps
    if num_steps == 40:
        assert resumed.cap.tokens is not None
        assert lived.controller.reference is not None, "the controller was at work"
