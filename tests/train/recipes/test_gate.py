"""The gate before GRPO refuses a warm start without signal, and never blames it for the machine."""

import json
from pathlib import Path

import pytest

from envs.errors import InfrastructureError, UserError
from tests.rewards.episodes import make_episode
from train.recipes.gate import check_gate, gather_facts
from train.stages.run_dir import StageDir

GOOD = {
    "dev_tasks": 48,
    "dev_pass_rate": 0.5,
    "dev_needs_rewrite": 20,
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
        ({"compact_share": 0.0}, "0% of 20 episodes that need a rewrite compact"),
        ({"evict_share": 0.04}, "4% of 20 episodes that need a rewrite evict"),
    ],
    ids=["too weak", "nothing left to learn", "never compacts", "hardly evicts"],
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


def test_the_gate_lets_a_good_warm_start_pass_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"dev_forced": 20, "forced_compact_share": 0.4, "forced_evict_share": 0.1}
    for facts in (GOOD, {"dev_tasks": 48, "dev_pass_rate": 0.5, **old}):
        check_gate(stage_with(tmp_path, facts), force=True)
    assert capsys.readouterr().err == "", "there is nothing to force"


def test_the_gate_counts_what_could_be_scored_and_never_blames_the_policy_for_the_machine() -> None:
    solved, failed = make_episode(), make_episode(solved=False)
    broken = make_episode(solved=False, unscorable="the disk is full", failed_part="grading")
    facts = gather_facts([solved, failed, broken], [broken], rewrites=True)
    assert (facts["dev_tasks"], facts["dev_pass_rate"], facts["dev_needs_rewrite"]) == (2, 0.5, 0)
    with pytest.raises(InfrastructureError, match=r"none of 2 dev episodes.*the disk is full"):
        gather_facts([broken, broken], [solved], rewrites=True)
