"""The second opinion: honest passes are believed, forged ones are not, and there may be none."""

import pytest

from envs.errors import UserError
from envs.grading import _draw, make_grader
from envs.second_runner import SecondRunner, bubblewrap_failure
from envs.twist import twisted
from tests.envs.small_tasks import BROKEN, FIXED, io_task, is_solved, pytest_task, store_of

NEEDED = pytest.mark.skipif(bool(bubblewrap_failure()), reason="no bubblewrap")
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


def test_the_copy_changes_asserted_equalities_only():
    changed, must_fail = twisted({"tests/test_all.py": SUITE}, IDS)
    assert sorted(must_fail) == sorted({*IDS} - {IDS[2]})
    text = changed["tests/test_all.py"]
    assert text.startswith('"""Docstring first."""\nfrom __future__ import annotations\n\ndef _')
    assert "self.assertEqual" not in text
    assert "if total([2]) == 2:\n        assert total([3]) == 3" in text
    assert "(total([1]), 1)\n" in text
    assert twisted({"test_a.py": "def test_a(:"}, ["test_a.py::test_a"]) == ({}, [])


@NEEDED
def test_an_honest_suite_of_many_kinds_is_believed():
    tree = {"calc.py": FIXED, "tests/test_all.py": SUITE}
    assert SecondRunner().doubt(tree, gold=tree, ids=IDS, wall_s=10) == ""


@NEEDED
def test_a_suite_that_does_not_pass_is_doubted():
    tree = {"calc.py": FIXED, "tests/test_all.py": SUITE}
    broken = tree | {"calc.py": BROKEN}
    doubt = SecondRunner().doubt(broken, gold=tree, ids=IDS, wall_s=10)
    assert "tests do not pass, such as tests/test_all.py::Test" in doubt
    slow = tree | {"calc.py": f"import time\ntime.sleep(99)\n{FIXED}"}
    runner = SecondRunner()
    assert "do not pass" in runner.doubt(slow, gold=tree, ids=IDS, wall_s=-5)  # 5 s in all


@NEEDED
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


def test_without_bubblewrap_only_a_share_above_zero_is_refused(monkeypatch, tmp_path):
    bubblewrap_failure.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    store = store_of(pytest_task())
    with make_grader(store):
        pass
    with pytest.raises(UserError, match=r"not installed.*apt-get install bubblewrap.*share: 0"):
        make_grader(store, second_runner_share=0.05)
    bubblewrap_failure.cache_clear()


@NEEDED
def test_a_suite_that_adds_to_the_namespace_of_doctests_is_believed():
    own = "import pytest\n@pytest.fixture(autouse=True)\ndef n(doctest_namespace):\n    pass\n"
    tree = {"calc.py": FIXED, "tests/conftest.py": own, "tests/test_all.py": SUITE}
    assert SecondRunner().doubt(tree, gold=tree, ids=IDS, wall_s=10) == ""
