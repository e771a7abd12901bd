"""The gate before GRPO refuses a warm start without signal, and never blames it for the machine."""

import json
from pathlib import Path

import pytest

from envs.errors import InfrastructureError, UserError
from tests.envs.readers.long_task import LONG
from tests.envs.world import CHAT, TASK
from tests.rewards.episodes import make_episode
from tests.train.rollouts.test_windows import TwoTasks
from train.config.settings import Settings
from train.recipes.gate import check_gate, draw_tight_requests, gather_facts
from train.rollouts.runner import RolloutRunner
from train.stages.run_dir import StageDir

GOOD = {
    "dev_tasks": 48,
    "dev_pass_rate": 0.5,
    "dev_needs_rewrite": 40,
    "rewrite_share": 0.45,
    "compact_share": 0.4,
    "evict_share": 0.1,
}


def stage_with(folder: Path, facts: dict[str, float]) -> StageDir:
    stage = StageDir(folder, "sft")
    stage.done.write_text(json.dumps(facts))
    return stage


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dev_pass_rate": 0.1}, "dev pass rate 10%"),
        ({"dev_pass_rate": 0.9}, "dev pass rate 90%"),
        ({"rewrite_share": 0.0}, "0% of 40 episodes that need a rewrite do one"),
        ({"rewrite_share": 0.09}, "9% of 40 episodes that need a rewrite do one"),
    ],
    ids=["too weak", "nothing left to learn", "never rewrites", "hardly rewrites"],
)
def test_the_gate_refuses_a_warm_start_without_signal(
    tmp_path: Path, change: dict[str, float], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = stage_with(tmp_path, {**GOOD, **change})
    with pytest.raises(UserError, match=told) as error:
        check_gate(stage, force=False)
    assert "--force" in error.value.remedy
    check_gate(stage, force=True)
    assert told in capsys.readouterr().err


def test_the_gate_warns_where_too_few_episodes_need_a_rewrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"dev_needs_rewrite": 29, "rewrite_share": 0.0}
    check_gate(stage_with(tmp_path, {**GOOD, **few}), force=False)
    assert (
        "0% of 29 episodes that need a rewrite do one (95 %: 0% to 12%)" in capsys.readouterr().err
    )
    with pytest.raises(UserError):
        check_gate(stage_with(tmp_path, {**GOOD, **few, "dev_needs_rewrite": 30}), force=False)


def test_the_gate_plays_enough_tight_windows_and_few_on_one_task() -> None:
    settings = Settings.model_validate(
        {
            "run": {"name": "x"},
            "model": {"base": "tiny"},
            "prompt": {"tools": "none"},
            "context": {
                "window_tokens": {"of_least_peak": [0.5, 2]},
                "max_turns": 40,
                "max_new_tokens": 48,
            },
        }
    )
    runner = RolloutRunner(TwoTasks(), CHAT, settings, bench=None)  # type: ignore[arg-type]
    requests = draw_tight_requests(runner, [LONG.id, TASK.id])
    assert [request.task_id for request in requests] == [LONG.id] * 4, "the short task has none"
    assert len({request.seed for request in requests}) == 4
    assert all(runner.windows.needs_rewrite(r.task_id, r.window_tokens) for r in requests)


def test_the_gate_lets_a_good_warm_start_pass_and_says_what_it_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"dev_forced": 20, "forced_compact_share": 0.4, "forced_evict_share": 0.1}
    for facts in (GOOD, {"dev_tasks": 48, "dev_pass_rate": 0.5, **old}):
        check_gate(stage_with(tmp_path, facts), force=True)
    said = capsys.readouterr().err
    assert (
        "gate: 45% of 40 episodes that need a rewrite do one (95 %: 31% to 60%); 10% evict" in said
    )
    assert "40% of 20 episodes" in said and "--force" not in said, "there is nothing to force"


def test_the_gate_says_when_no_task_needs_a_rewrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"rewrites": True, "dev_needs_rewrite": 0, "compact_share": 0.0, "evict_share": 0.0}
    check_gate(stage_with(tmp_path, {**GOOD, **none}), force=False)
    assert "no dev task has a window that needs a rewrite" in capsys.readouterr().err


def test_the_gate_counts_what_could_be_scored_and_never_blames_the_policy_for_the_machine() -> None:
    solved, failed = make_episode(), make_episode(solved=False)
    broken = make_episode(solved=False, unscorable="the disk is full", failed_part="grading")
    facts = gather_facts([solved, failed, broken], [broken], rewrites=True)
    assert (facts["dev_tasks"], facts["dev_pass_rate"], facts["dev_needs_rewrite"]) == (2, 0.5, 0)
    with pytest.raises(InfrastructureError, match=r"none of 2 dev episodes.*the disk is full"):
        gather_facts([broken, broken], [solved], rewrites=True)
