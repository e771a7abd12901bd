"""solves.json: counted step by step, and again from the recorded episodes on a resume."""

from rewards.solves import Solves
from tests.rewards.episodes import make_episode
from tests.train.small_run import settings_in
from train.rl.solve_counts import SolveCounts, read_solves
from train.stages.open_stage import open_stage
from train.stages.run_dir import StageDir


def play(stage, counts, step, *solved):
    episodes = [make_episode(task_id=f"t{step % 2}", solved=each) for each in solved]
    stage.write_episodes(step, episodes)
    counts.add(episodes)


def test_a_resume_counts_what_is_recorded_and_no_more(tmp_path):
    stage = open_stage(settings_in(tmp_path), "grpo")
    assert read_solves(stage) == {}
    lived = SolveCounts(stage)
    play(stage, lived, 1, True, False)
    play(stage, lived, 2, False)
    undisturbed = (stage.path / "solves.json").read_bytes()
    assert read_solves(stage) == {"t0": Solves(1, 0), "t1": Solves(2, 1)}
    play(stage, lived, 3, True, True)
    assert read_solves(stage)["t1"] == Solves(4, 3)

    stage.rewind(2)
    resumed = SolveCounts(stage)
    resumed.restore()
    assert (stage.path / "solves.json").read_bytes() == undisturbed
    play(stage, resumed, 3, True, True)
    assert read_solves(stage)["t1"] == Solves(4, 3)


def test_other_processes_write_nothing(tmp_path):
    counts = SolveCounts(StageDir(tmp_path, "grpo", is_main=False))
    counts.add([make_episode()])
    assert list(tmp_path.iterdir()) == []
