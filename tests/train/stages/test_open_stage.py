"""A stage's folder: what is created, refused, resumed and required."""

import json
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, write_built
from train.config.load import load_settings
from train.config.settings import Settings
from train.stages.open_stage import list_unused, open_stage, require
from train.stages.run_dir import StageDir, stage_dir

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


def test_settings_that_a_named_set_leaves_without_effect_are_said(
    settings: Settings, tmp_path: Path, capsys
) -> None:
    tasks = list(generate(2, split="train", seed=0))
    manifest = Manifest(source="path", seed=0, licence="x", settings={"asked": {"train": 9}})
    write_built(tmp_path / "t", tasks=tasks, manifest=manifest)
    stage = stage_dir(settings, "tasks")
    open_stage(settings, "demos", inputs=[stage])
    said = capsys.readouterr().err
    assert "of no effect: tasks.train 3000 (it has 2), tasks.dev 48 (it has 0)" in said
    assert "tasks.max_size [3, 3] (it has none)" in said
    fits = with_overrides(settings, f"--tasks.dir={tmp_path / 't'}", "--tasks.train=9")
    assert "tasks.train" not in " ".join(list_unused(fits))
    assert list_unused(with_overrides(settings)) == []
    taken = with_overrides(
        settings,
        f"--tasks.dir={tmp_path / 't'}",
        "--tasks.recorded_calls=required",
    )
    assert "recorded_calls" not in " ".join(list_unused(taken))


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
    assert require(settings, "grpo", experiment="--config c.yaml").read_json("inputs.json") == {
        "sft": sft.digest()
    }
    sft.finish({"seed": 2}, output=sft.config)
    with pytest.raises(UserError, match="was made from another sft") as caught:
        require(settings, "grpo", experiment="--config c.yaml")
    assert caught.value.remedy == "accelerate launch train/grpo.py --config c.yaml --clean"
    with pytest.raises(UserError, match="was begun with another sft"):
        open_stage(settings, "grpo", resume=True, inputs=[sft])
    assert open_stage(settings, "grpo", clean=True, inputs=[sft]).read_json("inputs.json") == {
        "sft": sft.digest()
    }
