"""The recipes: loss on sampled tokens only in the warm start, and the gate before GRPO."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import InfrastructureError, UserError
from envs.policies import Habits
from envs.records import Sampled
from tests.envs.test_context import WIDE
from tests.envs.world import play
from tests.rewards.episodes import make_episode
from train.config.load import load_settings
from train.grpo import check_gate, describe
from train.rl.checkpoints import last_checkpoint
from train.sft import batch_sizes, gate_facts, rows_dataset, sft_config, step_order
from train.stages.run_dir import StageDir

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
GOOD = {
    "dev_tasks": 48,
    "dev_pass_rate": 0.5,
    "dev_forced": 20,
    "forced_compact_share": 0.4,
    "forced_evict_share": 0.1,
}


def stage_with(folder: Path, facts: dict[str, float]) -> StageDir:
    stage = StageDir(folder, "sft")
    stage.done.write_text(json.dumps(facts))
    return stage


def test_warm_start_rows_are_the_segments_with_loss_on_what_was_sampled(tmp_path: Path) -> None:
    episodes = [
        play("careful", limits=WIDE, habits=Habits(find="file", rewrite=rewrite, eager=True))
        for rewrite in ("evict", "compact")
    ]
    (tmp_path / "demonstrations.jsonl").write_text(
        "".join(f"{episode.model_dump_json()}\n" for episode in episodes)
    )
    rows = rows_dataset(StageDir(tmp_path, "demos"))
    assert len(rows) == sum(len(episode.segment_ids) for episode in episodes) == 4
    trained = [t for row in rows for t in row["labels"] if t != -100]
    sampled = [
        t
        for e in episodes
        for event in e.events
        if isinstance(event, Sampled)
        for t in event.token_ids
    ]
    assert trained == sampled
    for row in rows:
        assert row["length"] == len(row["input_ids"]) == len(row["labels"])
        assert all(
            label in (-100, token)
            for label, token in zip(row["labels"], row["input_ids"], strict=True)
        )


def test_batches_hold_about_the_tokens_that_were_asked_for(tmp_path: Path) -> None:
    settings = load_settings(CONFIGS / "tiny.yaml", ["--run.dir", str(tmp_path)])
    lengths = [200, 300, 400] * 100
    config = sft_config(settings, StageDir(tmp_path, "sft"), lengths)
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    assert rows * 300 == pytest.approx(settings.sft.tokens_per_batch, rel=0.1)
    assert config.max_steps == pytest.approx(settings.sft.epochs * 300 / rows, abs=1)


@given(
    st.lists(st.integers(50, 400), min_size=4, max_size=40),
    st.integers(500, 40_000),
    st.sampled_from([1, 2, 4, 8]),
)
def test_a_step_has_the_same_rows_for_any_number_of_processes(
    lengths: list[int], tokens: int, world_size: int
) -> None:
    settings = load_settings(CONFIGS / "tiny.yaml", [f"--sft.tokens_per_batch={tokens}"])
    micro, accumulation = batch_sizes(settings, lengths, world_size=1)
    rows = micro * accumulation
    if rows % world_size == 0:
        micro, accumulation = batch_sizes(settings, lengths, world_size=world_size)
        assert micro * accumulation * world_size == rows
        assert micro == 1 or micro * max(lengths) <= settings.grpo.tokens_per_microbatch
        return
    with pytest.raises(UserError, match=f"{rows} rows, {world_size} processes") as error:
        batch_sizes(settings, lengths, world_size=world_size)
    better = [f"--sft.tokens_per_batch={error.value.remedy.split()[-1]}"]
    batch_sizes(load_settings(CONFIGS / "tiny.yaml", better), lengths, world_size=world_size)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_each_pass_of_the_warm_start_holds_every_row_once(
    lengths: list[int], rows_per_step: int, num_steps: int
) -> None:
    order = step_order(lengths, rows_per_step=rows_per_step, num_steps=num_steps, seed=0)
    assert len(order) == rows_per_step * num_steps
    for start in range(0, len(order), len(lengths)):
        part = order[start : start + len(lengths)]
        assert len(set(part)) == len(part)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dev_pass_rate": 0.1}, "dev pass rate 10%"),
        ({"dev_pass_rate": 0.9}, "dev pass rate 90%"),
        ({"forced_compact_share": 0.0}, "0% of 20 forced episodes compact"),
        ({"forced_evict_share": 0.04}, "4% of 20 forced episodes evict"),
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


def test_the_gate_lets_a_good_warm_start_pass(tmp_path: Path) -> None:
    check_gate(stage_with(tmp_path, GOOD), force=False)


def test_one_line_per_step_says_what_happened() -> None:
    line = describe(
        {
            "pass_rate": 0.5,
            "tokens_per_solved": 812.4,
            "peak_context": 301.0,
            "segments_per_episode": 1.5,
            "share_groups_without_signal": 0.25,
            "stop/submitted": 0.9,
            "stop/context_overflow": 0.1,
            "stop/timeout": 0.0,
            "grad_norm": 0.31,
            "entropy": 0.2,
            "seconds/rollout": 9.0,
            "seconds/learn": 7.0,
        }
    )
    assert "pass 0.50 | tokens/solved 812" in line
    assert "submitted 90% context_overflow 10%" in line and "timeout" not in line


def test_resuming_takes_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    stage = StageDir(tmp_path, "sft")
    assert last_checkpoint(stage) is None
    for step, whole in ((9, True), (10, True), (20, False)):
        folder = stage.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if whole:
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    assert last_checkpoint(stage) == stage.checkpoints / "checkpoint-10"


def test_the_gate_counts_what_could_be_scored_and_never_blames_the_policy_for_the_machine() -> None:
    solved, failed = make_episode(), make_episode(solved=False)
    broken = make_episode(solved=False, unscorable="the disk is full", failed_part="grading")
    facts = gate_facts([solved, failed, broken], [broken], rewrites=True)
    assert (facts["dev_tasks"], facts["dev_pass_rate"], facts["dev_forced"]) == (2, 0.5, 0)
    with pytest.raises(InfrastructureError, match=r"none of 2 dev episodes.*the disk is full"):
        gate_facts([broken, broken], [solved], rewrites=True)
