"""Evaluations during GRPO: which step is best, what the guard flags, what a resume keeps."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from envs.records import Episode
from tests.rewards.episodes import make_episode
from train.rl.dev_evaluation import (
    DevEvaluation,
    find_best_step,
    make_evaluation_row,
)
from train.rl.scoring import find_flagged_steps
from train.rollouts.runner import EpisodeRequest
from train.stages.run_dir import StageDir

TASKS = 40


def row(
    step: int, pass_rate: float, cost: float | None, *, flagged: bool = False
) -> dict[str, Any]:
    error = (pass_rate * (1 - pass_rate) / TASKS) ** 0.5
    names = ("step", "pass_rate", "standard_error", "tokens_per_solved", "flagged")
    found = dict(zip(names, (step, pass_rate, error, cost, flagged), strict=True))
    return found | {"num_episodes": TASKS, "num_unscorable": 0}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row(0, 0.4, 900), row(5, 0.48, 400), row(10, 0.46, 300)], 5),
        ([row(0, 0.4, 900), row(5, 0.48, 400), row(10, 0.48, 300), row(15, 0.48, 350)], 10),
        ([row(0, 0.5, 900), row(5, 0.5, 800), row(10, 0.2, 100)], 5),
        ([row(0, 0.5, 100), row(5, 0.5, 900)], 0),
        ([row(0, 0.5, 900), row(5, 0.4, 100), row(10, 0.4, 100)], 0),
        ([row(0, 0.5, 900), row(5, 0.5, 900)], 5),
        ([row(0, 0.0, None), row(5, 0.0, None)], 5),
        ([row(0, 0.5, 900), row(5, 0.5, 100, flagged=True)], 0),
    ],
    ids=[
        "the highest",
        "of equals the cheapest",
        "far below never",
        "as good but cheaper at the start",
        "worse with every step",
        "later of equals",
        "none",
        "flagged",
    ],
)
def test_the_best_step(rows: list[dict[str, Any]], best: int) -> None:
    assert find_best_step(rows) == best


class Run:
    """A training whose policy solves as many of the dev tasks as a list says."""

    def __init__(self, folder: Path, num_solved: list[int], *, done: int = 0) -> None:
        self.num_solved, self.num_drops, self.done = list(num_solved), 0, done
        self.control, self.stage = TrainerControl(), StageDir(folder, "grpo")
        self.stage.rewind(done)
        self.evaluation = DevEvaluation(
            self.stage,
            requests=[EpisodeRequest(f"t{n}", f"dev/0/{n}", 0, 400, n) for n in range(TASKS)],
            every=5,
            play=self._play,
            save=lambda path: path.mkdir(parents=True),
            on_drop=self._drop,
        )

    def _drop(self) -> None:
        self.num_drops += 1

    def _play(self, requests: Any, step: int) -> list[Episode]:
        solved = self.num_solved.pop(0)
        return [make_episode(task_id=r.task_id, solved=n < solved) for n, r in enumerate(requests)]

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            state = TrainerState(global_step=step, max_steps=22)
            self.evaluation.on_step_end(None, state, self.control)  # type: ignore[arg-type]

    def begin(self) -> None:
        state = TrainerState(global_step=self.done, max_steps=22)
        self.evaluation.on_train_begin(None, state, self.control)  # type: ignore[arg-type]


def test_evaluates_before_the_first_step_every_so_many_and_after_the_last(tmp_path: Path) -> None:
    run = Run(tmp_path, [20] * 6)
    run.begin()
    run.steps(1, 22)
    assert [r["step"] for r in run.evaluation.rows] == [0, 5, 10, 15, 20, 22]
    assert len(list((tmp_path / "episodes").glob("dev_*.jsonl.gz"))) == 6
    assert run.evaluation.copy_best(tmp_path / "best") == 22 and run.num_drops == 0


def test_a_drop_halves_the_weight_of_cost_and_a_second_in_a_row_stops(tmp_path: Path) -> None:
    run = Run(tmp_path, [30, 5, 31, 5, 6])
    run.begin()
    run.steps(1, 10)
    assert run.num_drops == 1 and not run.control.should_training_stop
    run.steps(11, 20)
    assert run.num_drops == 3 and run.evaluation.stopped and run.control.should_training_stop
    assert find_best_step(run.evaluation.rows) == 10, "the last good one"
    run.evaluation.on_save()
    assert (tmp_path / "dev" / "00010").is_dir() and not (tmp_path / "dev" / "00005").exists()
    again = Run(tmp_path, [], done=20)
    again.begin()
    assert again.evaluation.stopped and again.control.should_training_stop, "not forgotten"


def test_the_start_stays_while_nothing_is_better(tmp_path: Path) -> None:
    run = Run(tmp_path, [30, 29, 28])
    run.begin()
    run.steps(1, 10)
    run.evaluation.on_save()
    again = Run(tmp_path, [31], done=10)
    again.begin()
    for evaluation in (run.evaluation, again.evaluation):
        assert evaluation.copy_best(tmp_path / "best") == 0 and (tmp_path / "best").is_dir()
    again.steps(11, 15)
    assert find_best_step(again.evaluation.rows) == 15


def test_a_resume_forgets_what_is_later_and_evaluates_it_again(tmp_path: Path) -> None:
    first = Run(tmp_path, [30, 5, 28])
    first.begin()
    first.steps(1, 12)
    second = Run(tmp_path, [29, 4], done=6)
    second.begin()
    assert [r["step"] for r in second.evaluation.rows] == [0, 5]
    assert find_flagged_steps(second.stage) == [5]
    second.steps(7, 15)
    assert find_flagged_steps(second.stage) == [5, 15]
    assert [r["pass_rate"] for r in second.evaluation.rows] == [0.75, 0.125, 0.725, 0.1]


def test_a_broken_sandbox_neither_flags_nor_becomes_the_reference(tmp_path: Path) -> None:
    run = Run(tmp_path, [30])
    run.begin()
    broken = [make_episode(task_id=f"t{n}", unscorable="died") for n in range(TASKS)]
    run.evaluation._play = lambda requests, step: broken
    run.steps(1, 5)
    run.num_solved, run.evaluation._play = [5], run._play
    run.steps(6, 10)
    assert find_flagged_steps(run.stage) == [10]


def test_the_reference_does_not_slide_down_with_the_policy(tmp_path: Path) -> None:
    run = Run(tmp_path, [30, 26, 22, 14])
    run.begin()
    run.steps(1, 15)
    assert 15 in find_flagged_steps(run.stage)


def test_a_resume_compares_with_the_same_evaluation_of_equal_ones(tmp_path: Path) -> None:
    live = Run(tmp_path, [20, 20])
    live._play = lambda requests, step: [  # type: ignore[method-assign]
        make_episode(task_id=r.task_id, solved=(n < 20) == (step < 5))
        for n, r in enumerate(requests)
    ]
    live.evaluation._play = live._play
    live.begin()
    live.steps(1, 5)
    again = Run(tmp_path, [], done=5)
    again.begin()
    assert again.evaluation._good == live.evaluation._good


def test_the_standard_error_counts_tasks_and_not_their_samples() -> None:
    once = [make_episode(task_id=f"t{n}", solved=n % 2 == 0) for n in range(40)]
    found = [
        make_evaluation_row(0, once * samples, good=[])["standard_error"] for samples in (1, 4)
    ]
    assert found == pytest.approx([0.0801, 0.0801], abs=1e-4)
