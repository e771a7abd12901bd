"""The run directory: what is written and read back."""

import gzip
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from envs.errors import UserError
from envs.records import Episode
from tests.rewards.episodes import make_episode
from train.config.load import load_settings
from train.config.settings import Settings, TaskSettings
from train.stages.open_stage import open_stage, require
from train.stages.run_dir import StageDir, stage_in, tasks_dir

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "tiny.yaml"


class Row(BaseModel):
    """Stands for an episode."""

    a: str


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        CONFIG, [f"--run.dir={tmp_path / 'runs'}", f"--tasks.dir={tmp_path / 't'}"]
    )


def with_overrides(settings: Settings, *overrides: str) -> Settings:
    return load_settings(CONFIG, [f"--run.dir={settings.run.dir}", *overrides])


def test_only_the_main_process_writes(settings: Settings) -> None:
    other = open_stage(settings, "grpo", is_main=False)
    other.append_metrics({"step": 1})
    other.write_episodes(1, [Row(a="x")])
    other.finish({}, output=other.config)
    other.rewind(0)
    assert not other.path.exists()


def test_metrics_are_json_even_when_a_number_is_not(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    stage.append_metrics({"step": 1, "kl": float("nan"), "parts": [float("inf"), 2.0]})
    assert stage.read_metrics() == [{"step": 1, "kl": None, "parts": [None, 2.0]}]


def test_a_row_cut_by_a_kill_is_left_out_and_mended_by_rewind(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    stage.append_metrics({"step": 1})
    with stage.metrics.open("a") as file:
        file.write('{"step": 2, "kl"')
    assert stage.read_metrics() == [{"step": 1}]
    stage.rewind(1)
    stage.append_metrics({"step": 2})
    assert stage.read_metrics() == [{"step": 1}, {"step": 2}]


def test_episodes_appear_only_when_whole(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    with pytest.raises(ValueError, match="surrogates"):  # dies while it writes
        stage.write_episodes(1, [Row(a="x"), Row.model_construct(a="\ud800")])
    assert not stage.episode_file(1).exists()
    stage.write_episodes(1, [Row(a="x"), Row(a="y")])
    assert stage.episode_file(1).name == "step_00001.jsonl.gz"
    assert gzip.decompress(stage.episode_file(1).read_bytes()) == b'{"a":"x"}\n{"a":"y"}\n'
    assert [path.name for path in stage.episodes.iterdir()] == ["step_00001.jsonl.gz"]


def test_a_kill_in_mid_write_costs_nothing_that_was_whole(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    for step in (1, 2):
        stage.write_episodes(step, [make_episode()])
    before = {path.name: path.read_bytes() for path in stage.episodes.iterdir()}
    child = os.fork()
    if not child:

        def killed() -> Iterator[Episode]:
            for _ in range(9):
                yield make_episode()
            os.kill(os.getpid(), signal.SIGKILL)

        stage.write_episodes(2, killed())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(stage.episodes.iterdir())) == 3  # its draft
    assert stage.list_episodes() == ["step_00001", "step_00002"]
    stage.rewind(2)
    assert {path.name: path.read_bytes() for path in stage.episodes.iterdir()} == before


def test_a_damaged_file_is_refused_in_one_line(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    whole = stage.write_episodes(1, [make_episode()]).read_bytes()
    for damaged in (whole[:-9], whole[:99], whole[:40] + b"x" + whole[41:], whole[:5]):
        stage.episode_file(1).write_bytes(damaged)
        with pytest.raises(UserError, match=r"step_00001.jsonl.gz is damaged.*--clean$"):
            stage.read_episodes(1)


def test_plain_episodes_of_an_older_version_are_read_and_replaced(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    stage.write_episodes("dev_00001", [])
    old = stage.episodes / "step_00001.jsonl"
    old.write_text(make_episode().model_dump_json() + "\n")
    assert stage.episode_file(1) == old
    assert stage.list_episodes("step_") == ["step_00001"]
    assert stage.read_episodes(1) == [make_episode()]
    stage.write_episodes(1, [make_episode()] * 2)
    assert not old.exists()
    assert stage.list_episodes() == ["dev_00001", "step_00001"]
    assert stage.read_episodes(1) == [make_episode()] * 2


def test_rewind_forgets_what_came_after_the_checkpoint(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    for step in (1, 2, 3):
        stage.append_metrics({"step": step})
        stage.write_episodes(step, [Row(a="x")])
        stage.write_episodes(f"dev_{step:05d}", [Row(a="x")])
        (stage.path / "dev" / f"{step:05d}").mkdir(parents=True)
    stage.rewind(2)
    assert sorted(path.name for path in (stage.path / "dev").iterdir()) == ["00001", "00002"]
    assert [row["step"] for row in stage.read_metrics()] == [1, 2]
    assert sorted(path.name for path in stage.episodes.iterdir()) == [
        "dev_00001.jsonl.gz",
        "dev_00002.jsonl.gz",
        "step_00001.jsonl.gz",
        "step_00002.jsonl.gz",
    ]


def test_the_marker_tells_outputs_apart(settings: Settings) -> None:
    stage = open_stage(settings, "sft")
    markers = []
    for text in ("a", "b", "a"):
        (stage.path / "adapter").mkdir(exist_ok=True)
        (stage.path / "adapter" / "weights").write_text(text)
        stage.finish({}, output=stage.path / "adapter")
        markers.append(stage.digest())
    assert markers[0] == markers[2] != markers[1]


def test_tasks_are_shared_by_runs_with_equal_task_settings(settings: Settings) -> None:
    base = tasks_dir(with_overrides(settings))
    assert base.parent == Path(".cache/tightrope/tasks")
    assert tasks_dir(with_overrides(settings, "--run.name=other", "--grpo.max_steps=1")) == base
    assert tasks_dir(with_overrides(settings, "--tasks.seed=1")) != base
    assert tasks_dir(with_overrides(settings, "--tasks.difficulty={sites: [1, 1]}")) == base
    assert tasks_dir(settings) == Path(settings.tasks.dir)


def test_files_that_are_not_there_are_empty(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "grpo")
    assert stage == StageDir(tmp_path / "grpo", "grpo")
    assert (stage.read_json("done"), stage.read_config(), stage.list_episodes()) == ({}, {}, [])


def test_episodes_of_another_version_are_refused_in_one_line(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    stage.write_episodes("dev_00002", [])
    stage.write_episodes(3, [Row(a="x")])
    assert stage.list_episodes() == ["dev_00002", "step_00003"]
    assert stage.list_episodes("step_") == ["step_00003"]
    assert stage.read_episodes("dev_00002") == []
    with pytest.raises(UserError, match=r"step_00003.jsonl.gz holds no episodes of.*--clean$"):
        stage.read_episodes(3)


def test_a_new_setting_at_its_default_renames_no_task_set(settings: Settings) -> None:
    class Later(TaskSettings):
        new_share: float = 0.5

    now = with_overrides(settings)
    values = now.tasks.model_dump(exclude_unset=True)
    for share, same in ((0.5, True), (0.25, False)):
        later = now.model_copy(update={"tasks": Later(**values, new_share=share)})
        assert (tasks_dir(later) == tasks_dir(now)) == same
    spelled_out = Later(**now.tasks.model_dump())
    assert tasks_dir(now.model_copy(update={"tasks": spelled_out})) == tasks_dir(now)


def test_a_set_under_the_name_of_an_older_version_is_refused_with_the_remedy(
    settings: Settings, tmp_path: Path
) -> None:
    now = with_overrides(settings, f"--run.cache={tmp_path}")
    old = tmp_path / "tasks" / "synthetic-0123456789ab"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="is missing") as caught:
        require(now, "tasks", experiment="--config x.yaml")
    assert caught.value.remedy == "tightrope tasks build --config x.yaml"
