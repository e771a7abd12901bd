"""Runs made by an older version: read under today's names, or refused in one line.

`tests/train/data/old_run` was recorded in November 2026 with configs/smoke.yaml and twelve GRPO
steps, of which three were played; of their episodes one is kept.
"""

import shutil
from pathlib import Path

import pytest
import yaml

from envs.errors import UserError
from tightrope_cli.pages.report import build_report
from train.config.load import load_settings
from train.config.settings import RENAMED, Settings, list_fields
from train.recipes.gate import check_gate
from train.rl.step_rollouts import StepRollouts
from train.stages.open_stage import config_changes, open_stage
from train.stages.progress import Progress
from train.stages.run_dir import stage_in

RECORDED = Path(__file__).resolve().parents[1] / "data" / "old_run"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return shutil.copytree(RECORDED, tmp_path / "smoke")


@pytest.fixture
def settings(old_run: Path) -> Settings:
    """The old run's own settings, under today's names and where the copy lies."""
    data = stage_in(old_run, "grpo").read_config()
    return Settings.model_validate(data | {"run": data["run"] | {"dir": str(old_run.parent)}})


def test_settings_are_compared_under_todays_names(old_run: Path, settings: Settings) -> None:
    moved = f"run.dir: runs -> {old_run.parent}"
    changes = config_changes(stage_in(old_run, "grpo"), settings)
    assert moved in changes
    added = [change for change in changes if change != moved]  # settings that there were not then
    assert "tasks.recorded_calls: absent -> used" in added
    assert all(": absent -> " in change for change in added)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_refused_with_the_new_one(old: str, new: str, tmp_path: Path) -> None:
    section, _, name = old.partition(".")
    data = yaml.safe_load((RECORDED / "grpo" / "config.yaml").read_text())
    assert new in list_fields()
    assert name in data[section]
    config = tmp_path / "old.yaml"
    config.write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=f"{old}: .*{new}") as caught:
        load_settings(config)
    assert "\n" not in str(caught.value)


def test_a_stage_goes_on(old_run: Path, settings: Settings, capsys) -> None:
    stage = open_stage(settings, "grpo", resume=True)
    assert capsys.readouterr().err.count("\n") == 1
    stage.rewind(2)
    assert [row["step"] for row in stage.read_metrics()] == [1, 2]
    with Progress("test", total=1, enabled=False) as progress:
        StepRollouts(settings, None, stage, progress)  # type: ignore[arg-type]
    (episode,) = stage.read_episodes(1)
    assert stage.read_json("solves.json") == {episode.task_id: {"samples": 1, "solved": 0}}
    with pytest.raises(UserError, match="dev pass rate 0%"):
        check_gate(stage_in(old_run, "sft"), force=False)


def test_a_report_is_made(old_run: Path) -> None:
    page = build_report(old_run, old_run / "report" / "index.html").read_text()
    assert "training step 1, because evaluation has not run yet" in page
