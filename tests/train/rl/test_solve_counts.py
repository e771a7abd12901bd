"""solves.json: written by the main process; test_step_rollouts.py counts."""

from pathlib import Path

from rewards.solves import Solves
from train.rl.solve_counts import read_solves, write_solves
from train.stages.run_dir import StageDir


def test_counts_are_read_as_they_were_written(tmp_path: Path) -> None:
    stage = StageDir(tmp_path, "grpo")
    assert read_solves(stage) == {}
    counts = {"t1": Solves(2, 1), "t0": Solves(1, 0)}
    write_solves(stage, counts)
    assert read_solves(stage) == counts


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    write_solves(StageDir(tmp_path, "grpo", is_main=False), {"t0": Solves(1, 0)})
    assert list(tmp_path.iterdir()) == []
