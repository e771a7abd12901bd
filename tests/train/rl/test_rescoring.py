"""Saved episodes are scored again exactly, and under another reward without being played again."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import UserError
from envs.files import append_row, read_rows
from envs.records import Episode, Opened
from tests.envs.context.any_episodes import groups
from tests.envs.world import play
from tests.laws import CASES
from tests.rewards.episodes import sampled_event
from tests.train.rl.test_segments import TurnSizes, built_episode, segment_sizes
from tests.train.rl.test_step_rollouts import FURTHER, NUM_STEPS, SIGNAL, MadeUp
from tests.train.small_run import settings_in
from tightrope_cli.rescore import main
from train.config.settings import Settings
from train.rl.grpo_trainer import StepRequest
from train.rl.rescoring import check_views, rescore
from train.rl.scoring import StepScoring, find_flagged_steps
from train.rollouts.runner import EpisodeRequest
from train.stages.exit_codes import run_main
from train.stages.open_stage import open_stage
from train.stages.run_dir import StageDir

CONTROLLED = ("--reward.pressure=controlled", "--reward.cost_weight=0.5")
FORMS = [
    pytest.param((), id="fixed"),
    pytest.param((*CONTROLLED, *SIGNAL, "--grpo.overlong=mask"), id="all that depends on steps"),
    pytest.param(("--reward.advantage=zscore", "--reward.cost=price"), id="another form"),
]


class Consistent(MadeUp):
    """Rollouts whose event logs give the prompts that they say they were sampled under."""

    def play(
        self, requests: Sequence[EpisodeRequest], model: Any, *, step: int, what: str
    ) -> list[Episode]:
        return [sized(each) for each in super().play(requests, model, step=step, what=what)]


def sized(episode: Episode) -> Episode:
    """Return it with a log behind its prompt, and a sample of a length of its own."""
    num = 10 + episode.seed % 40
    turn = episode.turns[0].model_copy(update={"sample_end": 50 + num})
    events = (Opened(prefix_ids=(0,) * 50), sampled_event((0,) * num))
    update = {"events": events, "turns": (turn,), "segment_ids": ((0,) * (50 + num),)}
    return episode.model_copy(update=update)


def trained(folder: Path, *flags: str) -> tuple[Settings, StageDir]:
    """Make a run, with a drop that the guard saw after its third step."""
    settings = settings_in(folder, *FURTHER, f"--grpo.max_steps={NUM_STEPS}", *flags)
    return settings, go_on(settings, range(NUM_STEPS))


def go_on(settings: Settings, steps: range) -> StageDir:
    """Train, as from a checkpoint before these steps."""
    stage = open_stage(settings, "grpo", resume=True)
    stage.rewind(steps[0])
    flagged = find_flagged_steps(stage)
    rollouts = Consistent(settings, stage, dropped_after=flagged)
    for step in steps:
        batch = rollouts(StepRequest(step, 0, 4), None)
        stage.append_metrics({"step": step + 1, **batch.metrics})
        append_row(stage.dev_rows, {"step": step + 1, "flagged": step == 2})
        if step == 2:
            rollouts.scoring.halve_cost_weight()
    return stage


@pytest.mark.parametrize("flags", FORMS)
def test_the_same_reward_gives_the_same_bytes(flags: tuple[str, ...], tmp_path: Path) -> None:
    settings, stage = trained(tmp_path, *flags)
    found = rescore(stage, {1: settings}, StageDir(tmp_path / "again", "grpo"))
    files = sorted(stage.scores.iterdir())
    assert len(files) == found["num_files"] == found["num_files_equal"] >= NUM_STEPS
    for path in files:
        assert path.read_bytes() == (tmp_path / "again/scores" / path.name).read_bytes()
    assert found["saved"] == found["now"]
    assert found["num_episodes"] == found["num_views_rebuilt"] > 8 * NUM_STEPS - 1
    assert found["share_other_sign"] == 0


def test_the_weight_of_each_step_is_found_again(tmp_path: Path) -> None:
    _, stage = trained(tmp_path, "--reward.advantage=default")
    weights = [row["cost_weight"] for row in stage.read_metrics()]
    assert weights == [0.5] * 3 + [0.25] * 3


def test_another_reward_is_shown_beside_the_saved_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, stage = trained(tmp_path)
    before = {path: path.read_bytes() for path in stage.path.rglob("*") if path.is_file()}
    run = stage.path.parent
    line = [str(run), "--reward.outcome=graded", "--reward.advantage=outcome_only"]
    assert main(line) == 0
    summary = json.loads((run / "rescored/summary.json").read_text())
    (noted,) = summary["rewards"]
    assert (noted["step"], noted["reward"]["advantage"]) == (1, "outcome_only")
    assert summary["num_files_equal"] < summary["num_files"] == NUM_STEPS
    said = f"equal, byte for byte: {summary['num_files_equal']} of 6"
    assert said in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in before}
    assert main([str(run)]) == 0
    assert "equal, byte for byte: 6 of 6" in capsys.readouterr().out


OTHERS = (
    ("--reward.advantage=zscore", "--reward.pressure=controlled", "--reward.cost_weight=0.4"),
    ("--reward.cost=price", "--grpo.overlong=mask"),
    (),
)


def test_steps_under_other_rewards_are_scored_by_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resume may have another reward, and what was done anew under it counts."""
    same = (*FURTHER, f"--grpo.max_steps={NUM_STEPS}")
    _, stage = trained(tmp_path)
    for first, flags in zip((1, 2, 5), OTHERS, strict=True):
        stage = go_on(settings_in(tmp_path, *same, *flags), range(first, NUM_STEPS))
    assert [row["step"] for row in read_rows(stage.rewards)] == [1, 2, 3, 6]
    assert len({path.read_bytes() for path in stage.scores.iterdir()}) == NUM_STEPS
    run = stage.path.parent
    assert main([str(run)]) == 0
    said = capsys.readouterr().out
    assert "equal, byte for byte: 6 of 6" in said and "older version" not in said
    assert main([str(run), "--reward.outcome=graded"]) == 0
    rewards = json.loads((run / "rescored/summary.json").read_text())["rewards"]
    assert [each["reward"]["outcome"] for each in rewards] == ["graded"] * 4
    assert [each["reward"]["cost"] for each in rewards] == ["tokens", "tokens", "price", "tokens"]
    stage.rewards.unlink()
    capsys.readouterr()
    assert main([str(run)]) == 0
    said = capsys.readouterr().out
    assert "6 steps are of an older version" in said and "equal, byte for byte: 6" not in said


def test_a_run_that_saved_no_scores_is_scored_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, stage = trained(tmp_path)
    for path in stage.scores.iterdir():
        path.unlink()
    assert main([str(stage.path.parent)]) == 0
    assert "of an older version" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(["--grpo.group_size=2"], "no part of the reward", id="what was played"),
        pytest.param(["--reward.advantage=zscor"], "zscore", id="a slip"),
        pytest.param(["--out={run}/grpo"], "replace those of a stage", id="its own folder"),
    ],
)
def test_what_cannot_be_is_refused(
    line: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, stage = trained(tmp_path)
    run = str(stage.path.parent)
    assert run_main(main, [run, *(text.replace("{run}", run) for text in line)]) == 2
    assert said in capsys.readouterr().err
    assert main([run]) == 0


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        main([str(tmp_path)])


ANY = settings_in(Path())
rewards = st.fixed_dictionaries(
    {
        "advantage": st.sampled_from(["default", "additive", "multiplicative", "zscore"]),
        "outcome": st.sampled_from(["binary", "graded"]),
        "cost": st.sampled_from(["tokens", "price"]),
        "process_weight": st.sampled_from([0.0, 0.05]),
    }
)


@given(groups(), rewards, st.sampled_from(["keep", "mask"]))
@settings(max_examples=CASES)
def test_scoring_again_rebuilds_every_view_and_every_score(
    group: list[Episode], reward: dict[str, Any], overlong: str
) -> None:
    update = {
        "reward": ANY.reward.model_copy(update=reward),
        "grpo": ANY.grpo.model_copy(update={"overlong": overlong}),
    }
    asked = ANY.model_copy(update=update)
    scores = StepScoring(asked).score(group)
    with TemporaryDirectory() as folder:
        stage, out = (StageDir(Path(folder) / name, "grpo") for name in ("grpo", "again"))
        stage.write_episodes("step_00001", group)
        stage.write_scores("step_00001", scores)
        found = rescore(stage, {1: asked}, out)
        assert out.read_scores("step_00001") == scores
    assert found["num_files_equal"] == 1
    assert found["num_views_rebuilt"] == sum(len(episode.turns) for episode in group)


@given(segment_sizes)
def test_the_views_of_any_segments_are_rebuilt(segments: list[list[TurnSizes]]) -> None:
    episode = built_episode(segments)
    assert check_views(episode) == len(episode.turns)


def test_views_of_played_episodes_are_rebuilt() -> None:
    for name in ("gold", "careful", "wasteful"):
        episode = play(name)
        assert check_views(episode) == len(episode.turns)
    ids = episode.segment_ids
    damaged = episode.model_copy(update={"segment_ids": ((ids[0][0] + 1, *ids[0][1:]), *ids[1:])})
    with pytest.raises(UserError, match="a view is not what its event log says"):
        check_views(damaged)
