"""A run whose tools fail, hang and are killed ends by itself; what failed enters no gradient."""

import json
from pathlib import Path

import pytest

from rewards.outcome import is_scorable
from tests.train.recipes.faulty_run import FaultyRun, faulty_run
from tightrope_cli.pages.report import build_report, unscorable_parts
from train.rl.step_rollouts import StepRollouts
from train.stages.progress import Progress

DEADLINE_S = 1.0
SHARES = {"fail": 0.2, "hang": 0.05, "kill_server": 0.05}  # so that few steps see all of them


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FaultyRun:
    folder = tmp_path_factory.mktemp("faults")
    return faulty_run(folder, num_steps=4, deadline_s=DEADLINE_S, shares=SHARES)


def test_it_ends_by_itself_and_leaves_nothing(run: FaultyRun) -> None:
    assert run.trainer.state.global_step == 4
    assert run.left == ""


def test_gradients_are_those_of_the_scorable_episodes_alone(run: FaultyRun) -> None:
    broken = [sum(not is_scorable(e) for e in run.episodes(step)) for step in (1, 2, 3, 4)]
    assert sum(broken), "some were broken"
    differences = run.differences()
    assert max(differences) < 1e-6, (differences, broken)


def test_a_step_of_broken_episodes_moves_nothing(run: FaultyRun) -> None:
    batch, _ = run.rollouts.batches[0]
    assert run.gradient(batch).norm() > 0
    bare = type(batch)([[]])
    assert run.gradient(bare).norm() == 0


def test_broken_episodes_are_counted_and_every_reader_takes_them(
    run: FaultyRun, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in run.stage.metrics.read_text().split("\n") if line]
    broken = [e for step in (1, 2, 3, 4) for e in run.episodes(step) if not is_scorable(e)]
    counted = unscorable_parts(rows)
    assert sum(counted.values()) == len(broken) == sum(row["num_unscorable"] for row in rows)
    assert set(counted) <= {"tool", "worker", "timeout"}
    page = build_report(run.stage.path.parent, tmp_path / "index.html").read_text()
    assert all(f"{part} {num}" in page for part, num in counted.items())
    with Progress("test", total=1, unit="steps", enabled=False) as progress:
        settings, runner = run.rollouts._settings, run.rollouts._runner
        resumed = StepRollouts(settings, runner, run.stage, progress)
    assert resumed.scoring.controller == run.rollouts.scoring.controller
