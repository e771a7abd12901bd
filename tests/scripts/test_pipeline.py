"""The whole pipeline through the commands that users type, cut down, and taken up again."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.config.load import load_settings
from train.stages.open_stage import open_stage
from train.stages.run_dir import stage_dir

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "configs" / "smoke.yaml"
VERBS = ("tasks", "demos", "launch", "evaluate", "export", "report")
SCRIPT = str(ROOT / "scripts/pipeline.py")
# Every Python process of the run notes its name, and each attempt to reach another machine.
WATCHER = """
import os, sys
def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["WATCHER"], "a") as file:
            file.write(f"reached out: {event} {args!r} of {sys.orig_argv}\\n")
try:
    with open(os.environ["WATCHER"], "a") as file:
        file.write(f"started: {' '.join(sys.orig_argv)}\\n")
    sys.addaudithook(note)
except (KeyError, OSError):  # within the sandbox, whose processes reach nothing
    pass
"""
OUR_LINES = re.compile(
    r"(generating tasks|checking gold and no-op|least peaks|demonstrations|warm start|dev tasks"
    r"|GRPO|export|evaluate \w+): \d+/\d+ \w+ \(\d+ %\), (took )?[\dhms]+( so far| left)?( \| .*)?"
    r"|Warm start|GRPO|  (model|trained|data|tasks|steps|window|rollouts|training|files) +\S.*"
    r"|\d+ played, \d+ kept; .*|gate passed by --force: .*"
    r"|ALARM at step \d+: .*|dev tasks at step \d+: pass .*"
    r"|\d+ of them ask for a window that needs a rewrite, .*"
    r"| +demonstrations by habit \(means per episode\) +|[\u2500-\u257f].*[\u2500-\u257f]"
    r"|(warning|gate): .* (episodes that need|window that needs) a rewrite.*"
)


def pipeline(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, SCRIPT, "--config", str(SMOKE), *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smoke_runs_every_stage_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCHER)
    watched = {"PYTHONPATH": str(tmp_path), "WATCHER": str(tmp_path / "watched")}
    shown = pipeline(tmp_path, "--force", "--clean", **watched)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    foreign = [line for line in shown.stderr.splitlines() if not OUR_LINES.fullmatch(line)]
    assert foreign == [], "what libraries say goes to the logs"
    noted = (tmp_path / "watched").read_text()
    assert "reached out" not in noted
    for started in ("train/sft.py", "train/grpo.py", *(f"main.py {name}" for name in VERBS)):
        assert re.search(f"started: .*{started} ", noted), f"{started} was not watched"
    run = tmp_path / "runs" / "smoke"
    summary = json.loads((run / "evaluate" / "summary.json").read_text())
    assert summary["schema_version"] == 1
    rows = {row["name"]: row for row in summary["policies"]}
    assert set(rows) >= {"base", "sft", "grpo", "gold", "careful"}
    assert rows["gold"]["pass_rate"] == 1.0
    assert "<html" in (run / "report" / "index.html").read_text().lower()
    assert any((run / "export").rglob("adapter_model.safetensors"))
    assert len(list((run / "grpo" / "episodes").glob("step_*.jsonl.gz"))) == 2
    assert "held-out tasks" in shown.stdout
    assert "FutureWarning" in (run / "grpo" / "log.txt").read_text()
    assert str(Path("runs/smoke/report/index.html")) in shown.stdout

    shutil.rmtree(run / "report")
    again = pipeline(tmp_path, "--force")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("finished before, skipped") == 6
    assert (run / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ('{"source": "synthetic", "seed": 0, "licence": ""}', "a folder"),
        ("{}", "the task set's manifest is damaged"),
    ],
    ids=["a file where the folder of runs belongs", "a damaged task set"],
)
def test_a_stage_that_fails_ends_the_pipeline_with_its_exit_code(
    tmp_path: Path, manifest: str, told: str
) -> None:
    (tmp_path / "runs").write_text("")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "manifest.json").write_text(manifest)
    shown = pipeline(tmp_path, f"--tasks.dir={tmp_path / 'tasks'}")
    assert "[1/7] build tasks: finished before, skipped" in shown.stdout
    assert shown.returncode == 2
    assert told in shown.stderr
    assert "[2/7] execute demonstrations stopped" in shown.stderr


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGKILL, 1, "[2/7] execute demonstrations stopped, killed by SIGKILL (log: {log})"),
        (signal.SIGTERM, 1, "[2/7] execute demonstrations stopped (log: {log})"),
        (signal.SIGINT, 130, "[2/7] execute demonstrations stopped"),
    ],
    ids=["killed", "terminated", "Ctrl-C"],
)
def test_however_a_stage_ends_the_last_line_goes_on(
    tmp_path: Path, number: int, code: int, told: str
) -> None:
    counts = {"tasks.train": 8, "tasks.dev": 2, "sft.num_demonstrations": 4000}
    overrides = [f"--{name}={count}" for name, count in counts.items()]
    line = [sys.executable, SCRIPT, "--config", str(SMOKE), "--clean", *overrides]
    running = subprocess.Popen(
        line, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log = Path("runs/smoke/demos/log.txt")
    while running.poll() is None and not (tmp_path / log).is_file():
        time.sleep(0.1)
    (stage,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    if number == signal.SIGINT:  # as a terminal sends it: to the pipeline and to its stage
        os.killpg(running.pid, number)
    else:
        os.kill(int(stage), number)
    *_, last = running.communicate(timeout=120)[1].splitlines()
    assert running.returncode == code
    again = shlex.join(str(word) for word in line if word != "--clean")
    assert last == f"{told.format(log=log)}; to go on: {again}"
    assert not Path(f"/proc/{stage}").exists()


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
