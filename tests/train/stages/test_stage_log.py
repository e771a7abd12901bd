"""What libraries write goes to the log of the stage, our own lines to the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from train.stages.stage_log import LibraryLog, keep_log, say, terminal

ROOT = Path(__file__).resolve().parents[3]
NOISE = """
import logging, os, subprocess, sys, warnings
warnings.simplefilter("always")
warnings.warn("of Python")
logging.getLogger("transformers.x").warning("of a logger")
handler = logging.StreamHandler()  # as transformers and datasets make one for themselves
logging.getLogger("own").propagate = False
logging.getLogger("own").addHandler(handler)
logging.getLogger("own").warning("of a handler")
logging.getLogger("own").removeHandler(handler)
os.write(2, b"of native code\\n")
subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a child')"])
print("of a print", file=sys.stderr)
"""
PARTS = ["Python", "a logger", "a handler", "native code", "a child", "a print"]
STAGE = f"""
import sys
from pathlib import Path
from train.stages.stage_log import keep_log, say
from train.stages.progress import Progress
from train.stages.exit_codes import run_main

def main(argv):
    exec({NOISE!r})
    say("first")
    keep_log(Path(argv[0]), rank=int(argv[1]))
    exec({NOISE!r})
    with Progress("steps", total=1) as progress:
        progress.update(1)
    say("last")
    print("result")

sys.exit(run_main(main, sys.argv[1:], has_log=True))
"""


def stage(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", STAGE, *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(("rank", "name"), [(0, "log.txt"), (3, "log_3.txt")])
def test_the_terminal_holds_our_lines_and_the_log_all_others(
    tmp_path: Path, rank: int, name: str
) -> None:
    folder = tmp_path / "runs" / "x" / "sft"
    shown = stage(str(folder), str(rank))
    assert [line.partition(",")[0] for line in shown.stderr.splitlines()] == [
        "first",
        "steps: 0/1 steps (0 %)",
        "steps: 1/1 steps (100 %)",
        "last",
    ]
    assert shown.stdout == "result\n"
    assert [path.name for path in folder.iterdir()] == [name]
    log = (folder / name).read_text()
    assert {part: log.count(f"of {part}\n") for part in PARTS} == dict.fromkeys(PARTS, 2)
    stage(str(folder), str(rank))
    assert (folder / name).read_text().count("of native code\n") == 4, "a resume adds to it"


def test_with_debug_everything_is_shown(tmp_path: Path) -> None:
    shown = stage(str(tmp_path), "0", "--debug")
    assert all(shown.stderr.count(f"of {part}\n") == 2 for part in PARTS)
    assert not list(tmp_path.iterdir())


def test_within_a_program_everything_is_as_it_was_afterwards(tmp_path: Path, capfd) -> None:
    stream = sys.stderr
    with LibraryLog() as log:
        print("held back", file=sys.stderr)
        log.keep_in(tmp_path, stdout=True)
        print("printed by a library")
        say("ours")
    assert sys.stderr is stream is terminal()
    keep_log(tmp_path / "none")
    print("after", file=sys.stderr)
    assert capfd.readouterr() == ("", "ours\nafter\n")
    assert (tmp_path / "log.txt").read_text() == "held back\nprinted by a library\n"
    assert not (tmp_path / "none").exists()
