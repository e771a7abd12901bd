"""The warm start: loss on sampled tokens only, and the same rows for any number of processes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import UserError
from envs.habits.options import ScriptOptions
from envs.records import Sampled
from rewards.mistakes import find_mistakes
from tests.envs.context.test_event_log import WIDE
from tests.envs.world import play
from train.config.load import load_settings
from train.recipes.sft import derive_sft_config, divide_rows, draw_order, read_rows
from train.stages.run_dir import StageDir

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def test_warm_start_rows_are_the_segments_with_loss_on_what_was_sampled(tmp_path: Path) -> None:
    episodes = [
        play(
            "careful", limits=WIDE, options=ScriptOptions(find="file", rewrite=rewrite, eager=True)
        )
        for rewrite in ("evict", "compact")
    ]
    (tmp_path / "demonstrations.jsonl").write_text(
        "".join(f"{episode.model_dump_json()}\n" for episode in episodes)
    )
    rows = read_rows(StageDir(tmp_path, "demos"))
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


def test_a_mistake_carries_no_loss_and_its_repair_does(tmp_path: Path) -> None:
    options = ScriptOptions(mistake="past_the_end")
    episode = play("careful", limits=WIDE, options=options)
    (wrong,) = find_mistakes(episode)
    turn = episode.turns[wrong]
    StageDir(tmp_path, "demos").write_episodes("demonstrations", [episode])
    (row,) = read_rows(StageDir(tmp_path, "demos"))
    assert set(row["labels"][turn.prompt_end : turn.sample_end]) == {-100}
    others = [each for n, each in enumerate(episode.turns) if n != wrong]
    assert all(-100 not in row["labels"][t.prompt_end : t.sample_end] for t in others)
    assert row["length"] == episode.turns[-1].sample_end


def test_batches_hold_about_the_tokens_that_were_asked_for(tmp_path: Path) -> None:
    settings = load_settings(CONFIGS / "tiny.yaml", ["--run.dir", str(tmp_path)])
    lengths = [200, 300, 400] * 100
    config = derive_sft_config(settings, tmp_path, lengths)
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
    micro, accumulation = divide_rows(settings, lengths, world_size=1)
    rows = micro * accumulation
    if rows % world_size == 0:
        micro, accumulation = divide_rows(settings, lengths, world_size=world_size)
        assert micro * accumulation * world_size == rows
        assert micro == 1 or micro * max(lengths) <= settings.grpo.tokens_per_microbatch
        return
    with pytest.raises(UserError, match=f"{rows} rows, {world_size} processes") as error:
        divide_rows(settings, lengths, world_size=world_size)
    better = [f"--sft.tokens_per_batch={error.value.remedy.split()[-1]}"]
    divide_rows(load_settings(CONFIGS / "tiny.yaml", better), lengths, world_size=world_size)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_each_pass_of_the_warm_start_holds_every_row_once(
    lengths: list[int], rows_per_step: int, num_steps: int
) -> None:
    order = draw_order(lengths, rows_per_step=rows_per_step, num_steps=num_steps, seed=0)
    assert len(order) == rows_per_step * num_steps
    for start in range(0, len(order), len(lengths)):
        part = order[start : start + len(lengths)]
        assert len(set(part)) == len(part)
