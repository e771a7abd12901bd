"""The run directory: what is created, refused, resumed and required."""

import json
from pathlib import Path

import pytest

from envs.errors import UserError
from train.config.load import load_settings
from train.config.settings import Settings
from train.stages.run_dir import StageDir, open_stage, require, stage_dir, tasks_dir

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "tiny.yaml"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        CONFIG, [f"--run.dir={tmp_path / 'runs'}", f"--tasks.dir={tmp_path / 't'}"]
    )


def with_overrides(settings: Settings, *overrides: str) -> Settings:
    return load_settings(CONFIG, [f"--run.dir={settings.run.dir}", *overrides])


def test_a_new_stage_records_settings_and_environment(settings: Settings) -> None:
    stage = open_stage(settings, "sft")
    assert stage.path == Path(settings.run.dir) / "demo" / "sft"
    assert load_settings(stage.config) == settings
    found = json.loads((stage.path / "environment.json").read_text())
    assert found["seed"] == 0
    assert found["packages"]["torch"].startswith("2.13.")


def test_equal_runs_write_equal_files(settings: Settings) -> None:
    first = {path.name: path.read_bytes() for path in open_stage(settings, "sft").path.iterdir()}
    again = open_stage(settings, "sft", clean=True)
    assert {path.name: path.read_bytes() for path in again.path.iterdir()} == first


def test_a_stage_that_holds_something_is_refused(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    with pytest.raises(UserError, match=r"holds an unfinished run.*--resume.*--clean"):
        open_stage(settings, "grpo")
    stage.finish({}, output=stage.config)
    with pytest.raises(UserError, match=r"is finished.*--resume.*--clean"):
        open_stage(settings, "grpo")


def test_clean_deletes_and_resume_keeps(settings: Settings) -> None:
    open_stage(settings, "grpo").append_metrics({"step": 1})
    assert open_stage(settings, "grpo", resume=True).read_metrics() == [{"step": 1}]
    assert open_stage(settings, "grpo", clean=True).read_metrics() == []
    with pytest.raises(UserError, match="contradict"):
        open_stage(settings, "grpo", clean=True, resume=True)


def test_clean_spares_what_no_stage_wrote(settings: Settings) -> None:
    precious = stage_dir(settings, "grpo").path / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("years")
    with pytest.raises(UserError, match="does not look like a stage directory"):
        open_stage(settings, "grpo", clean=True)
    assert precious.read_text() == "years"


def test_resume_says_which_settings_changed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = open_stage(with_overrides(settings), "grpo")
    changed = with_overrides(settings, "--grpo.max_steps=29", "--grpo.learning_rate=1e-4")
    open_stage(changed, "grpo", resume=True)
    told = "grpo.max_steps: 120 -> 29, grpo.learning_rate: 0.0012 -> 0.0001"
    assert f"{stage.path} goes on; settings changed since: {told}\n" == capsys.readouterr().err
    stage.finish({}, output=stage.config)
    recorded = stage.config.read_text()
    open_stage(with_overrides(settings, "--grpo.max_steps=30"), "grpo", resume=True)
    said = capsys.readouterr().err
    assert "is finished, nothing is made again; settings changed since: grpo.max_steps: 29" in said
    assert stage.config.read_text() == recorded, "it says what the result was made with"


def test_only_the_main_process_writes(settings: Settings) -> None:
    other = open_stage(settings, "grpo", is_main=False)
    other.append_metrics({"step": 1})
    other.write_episodes(1, ["{}"])
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
    with pytest.raises(UnicodeEncodeError):  # dies while it writes, as a full disk would make it
        stage.write_episodes(1, ["{}", "\ud800"])
    assert not stage.episode_file(1).exists()
    stage.write_episodes(1, ['{"a": 1}', '{"a": 2}'])
    assert stage.episode_file(1).name == "step_00001.jsonl"
    assert stage.episode_file(1).read_text() == '{"a": 1}\n{"a": 2}\n'


def test_rewind_forgets_what_came_after_the_checkpoint(settings: Settings) -> None:
    stage = open_stage(settings, "grpo")
    for step in (1, 2, 3):
        stage.append_metrics({"step": step})
        stage.write_episodes(step, ["{}"])
    stage.rewind(2)
    assert [row["step"] for row in stage.read_metrics()] == [1, 2]
    assert sorted(path.name for path in stage.episodes.iterdir()) == [
        "step_00001.jsonl",
        "step_00002.jsonl",
    ]


@pytest.mark.parametrize(
    ("stage", "remedy"),
    [
        ("tasks", "tightrope tasks build --config c.yaml"),
        ("demos", "tightrope demos --config c.yaml"),
        ("sft", "accelerate launch train/sft.py --config c.yaml"),
        ("grpo", "accelerate launch train/grpo.py --config c.yaml"),
        ("evaluate", "tightrope evaluate --config c.yaml"),
    ],
)
def test_a_missing_input_names_the_one_command(stage, remedy: str, settings: Settings) -> None:
    with pytest.raises(UserError) as caught:
        require(settings, stage, experiment="--config c.yaml")
    assert caught.value.remedy == remedy


def test_an_unfinished_input_is_not_taken_for_whole(settings: Settings) -> None:
    stage = open_stage(settings, "sft")
    with pytest.raises(UserError, match="is unfinished"):
        require(settings, "sft", experiment="--config c.yaml")
    stage.finish({"steps": 3}, output=stage.config)
    assert require(settings, "sft", experiment="--config c.yaml") == StageDir(stage.path, "sft")


def test_a_stage_made_from_another_input_is_out_of_date(settings: Settings) -> None:
    sft = open_stage(settings, "sft")
    sft.finish({"seed": 1}, output=sft.config)
    grpo = open_stage(settings, "grpo", inputs=[sft])
    grpo.finish({}, output=grpo.config)
    assert require(settings, "grpo", experiment="--config c.yaml").inputs() == {"sft": sft.digest()}
    sft.finish({"seed": 2}, output=sft.config)
    with pytest.raises(UserError, match="was made from another sft") as caught:
        require(settings, "grpo", experiment="--config c.yaml")
    assert caught.value.remedy == "accelerate launch train/grpo.py --config c.yaml --clean"
    with pytest.raises(UserError, match="was begun with another sft"):
        open_stage(settings, "grpo", resume=True, inputs=[sft])
    assert open_stage(settings, "grpo", clean=True, inputs=[sft]).inputs() == {"sft": sft.digest()}


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
