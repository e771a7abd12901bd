"""However a command ends: the right exit code, and one line that says how to go on."""

import os
import pickle
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envs.errors import InfrastructureError, UserError
from train.stages.exit_codes import keep_note, resuming, run_main
from train.stages.stage_log import keep_log

ROOT = Path(__file__).resolve().parents[3]
COMMAND = "tightrope launch train/sft.py"
LINE = ["--config", "a b.yaml", "--clean", "--run.seed=1"]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ZeroDivisionError("a bug"), 1, "error: ZeroDivisionError: a bug. Log: {log}; to go on: "),
        (RuntimeError("x\ny" + "z" * 999), 1, "error: RuntimeError: x yz"),
        (InfrastructureError("no fork"), 1, "error: the sandbox failed: no fork. Remedy: "),
        (RuntimeError("Connection closed by peer"), 1, "error: another process of this run has"),
        (MemoryError(), 1, "error: MemoryError:. Log: {log}; to go on: "),
        (KeyboardInterrupt(), 130, "interrupted; to go on: "),
    ],
    ids=["bug", "long", "sandbox", "peer", "memory", "Ctrl-C"],
)
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
def test_a_stage_that_dies_says_in_one_line_how_to_go_on(
    tmp_path: Path, capsys, error: BaseException, code: int, told: str, begun: bool
) -> None:
    def main(argv: list[str]) -> int:
        if begun:
            keep_log(tmp_path)
        raise error

    assert run_main(main, LINE, command=COMMAND, has_log=True) == code
    said = capsys.readouterr().err
    if not begun:
        assert said.endswith(f"; to try again: {COMMAND} {shlex.join(LINE)}\n")
        is_bug = code == 1 and "Remedy" not in said
        assert ("Traceback" in said) == is_bug, "there is no log that could hold it"
        return
    assert said.strip().count("\n") == 0
    assert said.strip().startswith(told.format(log=tmp_path / "log.txt"))
    assert said.endswith(f"; to go on: {COMMAND} --config 'a b.yaml' --run.seed=1 --resume\n")
    assert ("Traceback" in (tmp_path / "log.txt").read_text()) == (code == 1)


def test_the_users_error_has_its_own_remedy(tmp_path: Path, capsys) -> None:
    def main(argv: list[str]) -> int:
        keep_log(tmp_path)
        raise UserError("no", remedy="do")

    assert run_main(main, LINE, command=COMMAND, has_log=True) == 2
    assert capsys.readouterr().err == "error: no. Remedy: do\n"


@pytest.mark.parametrize(
    "error",
    [UserError("no", got="x", remedy="do"), InfrastructureError("gone", part="server")],
    ids=["user", "machine"],
)
def test_an_error_is_the_same_in_another_process(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("in_the_way", ["runs", "runs/x", "runs/x/demos"])
def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path, capsys, in_the_way: str) -> None:
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).touch()

    def main(argv: list[str]) -> None:
        (tmp_path / "runs" / "x" / "demos").mkdir(parents=True, exist_ok=True)

    assert run_main(main, LINE) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: a file where a folder is needed (got: {tmp_path / in_the_way})")


def test_a_command_without_resume_is_repeated_as_it_was(tmp_path: Path, capsys) -> None:
    def main(argv: list[str]) -> int:
        keep_log(tmp_path, resumes=False)
        raise KeyboardInterrupt

    assert run_main(main, LINE, command="tightrope", has_log=True) == 130
    assert capsys.readouterr().err.endswith(f"; to try again: tightrope {shlex.join(LINE)}\n")


def test_what_is_kept_is_said_where_the_same_command_goes_on(capsys) -> None:
    def main(argv: list[str]) -> int:
        with keep_note("bugs are kept in c"):
            raise KeyboardInterrupt

    assert run_main(main, LINE, command="tightrope") == 130
    said = capsys.readouterr().err
    assert said == f"\ninterrupted; bugs are kept in c; to go on: tightrope {shlex.join(LINE)}\n"


def test_what_another_command_started_leaves_the_last_word_to_it(tmp_path: Path, capsys) -> None:
    def main(argv: list[str]) -> int:
        keep_log(tmp_path)
        raise ZeroDivisionError("a bug")

    assert run_main(main, LINE, command="", has_log=True) == 1
    assert capsys.readouterr().err.endswith(f"Log: {tmp_path / 'log.txt'}\n")


def test_a_command_that_resumed_resumes_again() -> None:
    assert resuming("tightrope", ["evaluate", "--resume"]) == "tightrope evaluate --resume"


def test_sigterm_ends_a_stage_like_ctrl_c_and_not_what_it_forked(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
from pathlib import Path
from train.stages.exit_codes import run_main
from train.stages.stage_log import keep_log, say

def main(argv):
    keep_log(Path(argv[0]))
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, b"here")
        time.sleep(60)
        os._exit(0)
    os.read(reading, 4)
    os.kill(child, signal.SIGTERM)
    say(f"child {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

sys.exit(run_main(main, sys.argv[1:], command="tightrope", has_log=True))
"""
    line = [sys.executable, "-c", code, str(tmp_path)]
    shown = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert shown.returncode == 1
    assert shown.stderr.splitlines() == [
        f"child {-signal.SIGTERM}",
        f"ended by SIGTERM; to go on: tightrope {tmp_path} --resume",
    ]
