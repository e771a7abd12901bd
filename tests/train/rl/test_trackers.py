"""What reaches a tracker: once, under the names of the field, and never at the cost of the run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.errors import UserError
from tests.train.small_run import settings_in
from train.rl.trackers import _reporting, _Tracker, check_tracker, name_numbers, open_tracker
from train.stages.run_dir import StageDir

TWO_LAUNCHES = """
import sys
from pathlib import Path
from tests.train.rl.test_trackers import launch
for first, last, checkpoint in ((1, 4, 0), (3, 6, 2)):
    launch(sys.argv[1], Path(sys.argv[2]), first, last, checkpoint)
"""


def launch(name: str, folder: Path, first: int, last: int, checkpoint: int) -> None:
    """Report as a stage does that plays the steps before `last` after a checkpoint."""
    settings, stage = settings_in(folder, f"--run.report_to={name}"), StageDir(folder, "grpo")
    with open_tracker(settings, stage, step=checkpoint) as report:
        for step in range(first, last):
            report("train", {"step": step, "loss": first + step, "alarms": ["entropy"]})
            report("eval", {"step": step, "pass_rate": 0.5})


def launch_apart(name: str, folder: Path) -> None:
    pytest.importorskip(name)
    own = {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_MODE": "offline", "HOME": str(folder)}
    line = [sys.executable, "-c", TWO_LAUNCHES, name, str(folder)]
    subprocess.run(line, env={**os.environ, **own}, check=True, timeout=120)


def test_numbers_get_the_names_of_the_field() -> None:
    row = {
        "step": 3,
        "loss": 1,
        "pass_rate": 0.5,
        "kl": float("nan"),
        "cost": None,
        "alarms": ["x"],
    }
    assert name_numbers("train", row) == {"train/loss": 1.0, "train/rewards/solved/mean": 0.5}
    assert name_numbers("eval", {"step": 3, "pass_rate": 1}) == {"eval/rewards/solved/mean": 1.0}


def test_tensorboard_shows_a_resumed_run_as_one(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    launch("tensorboard", tmp_path, 1, 4, 0)
    launch("tensorboard", tmp_path, 3, 6, 2)
    found = events.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    values = [(each.step, each.value) for each in found.Scalars("train/loss")]
    assert values == [(1, 2.0), (2, 3.0), (3, 6.0), (4, 7.0), (5, 8.0)]
    assert [each.step for each in found.Scalars("eval/rewards/solved/mean")] == [1, 2, 3, 4, 5]


def test_trackio_goes_on_in_the_same_run(tmp_path: Path) -> None:
    launch_apart("trackio", tmp_path)
    import sqlite3

    with sqlite3.connect(tmp_path / "trackio" / "tightrope.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    own = json.loads((tmp_path / "tracker.json").read_text())["run"]
    assert {name for name, _, _ in rows} == {own}
    assert [step for _, step, _ in rows] == [1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5]
    assert json.loads(rows[0][2]) == {"train/loss": 2.0}


def test_wandb_goes_on_in_the_same_run(tmp_path: Path) -> None:
    launch_apart("wandb", tmp_path)
    own = json.loads((tmp_path / "tracker.json").read_text())["run"]
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{own}/run-{own}.wandb"))) == 2


def test_other_ranks_and_none_report_nothing(tmp_path: Path) -> None:
    for name, is_main in (("tensorboard", False), ("none", True)):
        stage = StageDir(tmp_path, "grpo", is_main=is_main)
        settings = settings_in(tmp_path, f"--run.report_to={name}")
        with open_tracker(settings, stage, step=0) as report:
            report("train", {"step": 1, "loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_fails_ends_no_run(capsys) -> None:
    sent = []

    def send(step: int, numbers: dict[str, float]) -> None:
        sent.append(step)
        raise ConnectionError("no route to host")

    with _reporting("wandb", _Tracker(send, lambda: sent.append(-1), "")) as report:
        for step in (1, 2):
            report("train", {"step": step, "loss": 1.0})
    assert sent == [1]
    assert capsys.readouterr().err.count("\n") == 1


def test_one_that_is_not_there_or_does_not_start_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_tracker("none")
    monkeypatch.setitem(sys.modules, "wandb", None)  # not installed
    with pytest.raises(UserError, match=r"wandb is not installed.*pip install wandb"):
        check_tracker("wandb")
    settings = settings_in(tmp_path, "--run.report_to=wandb")
    with (
        pytest.raises(UserError, match=r"wandb does not start \(got: import of wandb halted"),
        open_tracker(settings, StageDir(tmp_path, "grpo"), step=0),
    ):
        pass
