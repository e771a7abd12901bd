"""The whole pipeline through the commands that users type, cut down, and taken up again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from train.load import load_settings
from train.run_dir import open_stage, stage_dir

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "configs" / "smoke.yaml"


def pipeline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "scripts/pipeline.py"), "--config", str(SMOKE), *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smoke_runs_every_stage_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    shown = pipeline(tmp_path, "--force", "--clean")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    run = tmp_path / "runs" / "smoke"
    summary = json.loads((run / "evaluate" / "summary.json").read_text())
    assert summary["schema_version"] == 1
    rows = {row["name"]: row for row in summary["policies"]}
    assert set(rows) >= {"base", "sft", "grpo", "gold", "careful"}
    assert rows["gold"]["pass_rate"] == 1.0
    assert "<html" in (run / "report" / "index.html").read_text().lower()
    assert any((run / "export").rglob("adapter_model.safetensors"))
    assert len(list((run / "grpo" / "episodes").glob("step_*.jsonl"))) == 2
    assert "held-out tasks" in shown.stdout
    assert str(Path("runs/smoke/report/index.html")) in shown.stdout

    shutil.rmtree(run / "report")
    again = pipeline(tmp_path, "--force")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("finished before, skipped") == 6
    assert (run / "report" / "index.html").is_file()


def test_a_stage_that_fails_ends_the_pipeline_with_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder of runs belongs")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "manifest.json").write_text("{}")
    shown = pipeline(tmp_path, f"--tasks.dir={tmp_path / 'tasks'}")
    assert "[1/7] build tasks: finished before, skipped" in shown.stdout
    assert shown.returncode in (1, 2)
    assert "[2/7] execute demonstrations stopped" in shown.stderr


def test_finished_stages_say_when_settings_changed_since(tmp_path: Path) -> None:
    settings = load_settings(SMOKE, [f"--run.dir={tmp_path / 'runs'}", f"--tasks.dir={tmp_path}"])
    (tmp_path / "manifest.json").write_text("{}")
    for stage in ("demos", "sft", "grpo", "evaluate", "export", "report"):
        opened = open_stage(settings, stage)
        opened.finish({}, output=opened.config)
    summary = stage_dir(settings, "evaluate").path / "summary.json"
    summary.write_text(json.dumps({"schema_version": 1, "policies": []}))
    overrides = [f"--run.dir={tmp_path / 'runs'}", f"--tasks.dir={tmp_path}", "--grpo.max_steps=9"]
    shown = pipeline(tmp_path, *overrides)
    assert shown.returncode == 0, shown.stderr
    assert "although settings changed (grpo.max_steps: 2 -> 9); --clean starts over" in shown.stdout
