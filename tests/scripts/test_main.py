"""`tightrope VERB`: help is fast and free of torch, mistakes end in one line and exit code 2."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tightrope_cli.main import VERBS
from tightrope_cli.tasks import build_path

ROOT = Path(__file__).resolve().parents[2]
CLI = [sys.executable, "-c", "import sys; from tightrope_cli.main import main; sys.exit(main())"]
LOADED = """
import atexit, sys
atexit.register(lambda: sys.stderr.write(f"torch {'torch' in sys.modules}"))
from tightrope_cli.main import main
main(sys.argv[1:])
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], cwd=ROOT, capture_output=True, text=True)


def cpu_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("line", ["--help", "tasks --help", *(f"{verb} --help" for verb in VERBS)])
def test_help_takes_under_a_second_of_cpu_without_torch(line: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", LOADED, *line.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert shown.stderr == "torch False"
    assert "usage: tightrope" in shown.stdout
    assert "example" in shown.stdout
    seconds = []
    for _ in range(3):  # the best of three: other work on the machine only ever adds time
        began = cpu_seconds_of_children()
        assert run(*line.split()).returncode == 0
        seconds.append(cpu_seconds_of_children() - began)
    assert min(seconds) < 1.0


def test_every_verb_is_a_file_and_listed() -> None:
    shown = run("--help").stdout
    for verb in VERBS:
        module, _ = VERBS[verb]
        assert find_spec(f"tightrope_cli.{module}") is not None
        assert f"  {verb} " in shown


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["evalute"], "did you mean `tightrope evaluate`?"),
        (["xyzzy"], "see `tightrope --help`"),
        (["tasks", "stat", "--config", "x.yaml"], "did you mean `tightrope tasks stats`?"),
        (["model", "fetc", "x"], "did you mean `tightrope model fetch`?"),
        (["evaluate"], "needs --config"),
        (["evaluate", "--config", "none.yaml"], "cannot read none.yaml"),
    ],
    ids=["near miss", "unknown", "near task verb", "near action", "no config", "no file"],
)
def test_mistakes_exit_2_in_one_line(arguments: list[str], part: str) -> None:
    shown = run(*arguments)
    assert shown.returncode == 2
    assert part in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_no_verb_shows_the_verbs_and_half_a_verb_those_that_begin_so() -> None:
    shown = run()
    assert shown.returncode == 2
    assert all(f"  {verb} " in shown.stdout for verb in VERBS)
    half = run("tasks")
    assert half.returncode == 2
    assert "  tasks add " in half.stdout
    assert "  doctor " not in half.stdout


def test_the_help_of_builds_has_the_form_for_a_folder_with_its_flags() -> None:
    shown = run("tasks", "build", "--help").stdout
    assert build_path.EXAMPLE in shown
    assert all(f"  {flag.name} " in shown for flag in build_path.FLAGS)
