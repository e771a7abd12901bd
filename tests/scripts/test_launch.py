"""`tightrope launch` starts what `accelerate launch` starts, and is silent but for one line."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "scripts" / "main.py"), "launch", *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(line, capture_output=True, text=True, env=variables)


@pytest.mark.parametrize(
    ("code", "exit_code", "told"),
    [
        ("sys.exit(0)", 0, ""),
        ("print('error: mine', file=sys.stderr); sys.exit(2)", 2, "error: mine\n"),
        ("sys.exit(130)", 130, ""),
        ("os.kill(os.getpid(), 9)", 1, "{script} was killed by SIGKILL (no memory left?){again}"),
        ("os.abort()", 1, "{script} was killed by SIGABRT{again}"),
    ],
    ids=["fine", "user's error", "Ctrl-C", "killed", "crash in native code"],
)
def test_a_script_ends_with_its_own_code_and_words(
    tmp_path: Path, code: str, exit_code: int, told: str
) -> None:
    script = tmp_path / "stage.py"
    script.write_text(f"import os, sys\nassert os.environ['ACCELERATE_MIXED_PRECISION']\n{code}\n")
    shown = launch(str(script), "--config", "x.yaml", "--clean")
    again = f"; to go on: tightrope launch {script} --config x.yaml --resume\n"
    assert shown.stderr == told.format(script=script, again=again)
    assert (shown.returncode, shown.stdout) == (exit_code, "")


def test_accelerates_own_complaints_are_the_users_error() -> None:
    shown = launch("--no_such_flag", "3", "--num_processes", "many", "train/sft.py")
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: accelerate does not start this (got: ")
    assert shown.stderr.count("\n") == 1


@pytest.mark.slow
def test_of_several_processes_the_one_that_was_killed_is_named(tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(
        "import os, time\n"
        "if os.environ['RANK'] == '1':\n    os.kill(os.getpid(), 9)\n"
        "time.sleep(60)\n"
    )
    config = str(ROOT / "configs" / "accelerate" / "cpu_zero2.yaml")
    options = ["--main_process_port", "0", "--config_file", config]
    shown = subprocess.run(
        [sys.executable, str(ROOT / "scripts/main.py"), "launch", *options, str(script), "--x"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
    )
    assert shown.returncode == 1
    assert shown.stderr.splitlines() == [
        f"process 1 of {script} was killed by SIGKILL (no memory left?); to go on: "
        f"tightrope launch {shlex.join(options)} {script} --x --resume"
    ]
