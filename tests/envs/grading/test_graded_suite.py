"""Canaries accuse nobody who is honest, whatever the suite is like."""

import pytest

from envs.grading.graded_suite import CanaryFits, is_clean, run_graded
from envs.grading.graders import PytestGrader
from envs.sandbox.fork_server import ForkServer
from tests.attacks.graders.adaptive_reports_spare_canaries import SOURCE as FORGED
from tests.envs.small_tasks import BROKEN, FIXED, is_solved, pytest_task, store_of

PATH = "tests/test_calc.py"
PLAIN = """\
from calc import first, total

def test_total():
    assert total([1, 2]) == 3

def test_first():
    assert first([7, 8]) == 7
"""
LINES = (
    PLAIN
    + """
import inspect

def test_lines(request):
    assert total([1]) == 1 and inspect.getsourcelines(test_lines)[1] == 11
"""
)
ONCE = PLAIN.replace(
    "def test_total():\n",
    "seen = []\n\ndef test_total():\n    seen.append(1)\n    assert len(seen) < 2\n",
)
LOOSE = """\
from calc import first, total

class Near(int):
    def __eq__(self, other):
        return abs(int(self) - other) < 9

def test_total():
    assert Near(total([1, 2])) == 3

def test_first():
    assert first([7, 8]) == 7
"""
SUITES = {"plain": PLAIN, "lines": LINES, "once": ONCE, "loose": LOOSE}


@pytest.fixture(scope="module")
def server():
    with ForkServer(preload="pytest") as server:
        yield server


def make_task(name):
    total, first, lines = (f"{PATH}::test_{each}" for each in ("total", "first", "lines"))
    repaired = {"loose": [], "lines": [lines]}.get(name, [total])
    others = {"loose": [total, first], "lines": [first]}.get(name, [first])
    return pytest_task(tests=SUITES[name], fail_to_pass=repaired, pass_to_pass=others)


@pytest.mark.parametrize("name", SUITES)
def test_an_honest_repair_is_believed_and_the_bug_is_no_fraud(server, name):
    task = make_task(name)
    for _ in range(4):
        fits = CanaryFits()
        grader = PytestGrader(server, store_of(task), fits=fits)
        noop = grader.grade(task.hidden, {"calc.py": BROKEN})
        assert (noop.tampered, noop.fail_to_pass_rate) == (False, 0.0)
        assert noop.pass_to_pass_rate == 1.0
        gold = grader.grade(task.hidden, {"calc.py": FIXED})
        assert (gold.tampered, gold.pass_to_pass_rate) == (False, 1.0)
        assert is_solved(gold) or not task.hidden.fail_to_pass
        assert name in ("plain", "once") or [*fits.of_tasks.values()] == [False]


def test_who_has_the_suites_own_tests_pass_is_caught(server):
    """Canaries in files of their own are spared here: `calc` is not in their names."""
    task = make_task("plain")
    ids = [*task.hidden.fail_to_pass, *task.hidden.pass_to_pass]
    tree = task.tests | {"calc.py": FORGED}
    suite = run_graded(server, tree, gold=task.tests, hidden=task.hidden, fits=CanaryFits())
    assert suite.forged and not is_clean(suite, ids)
    outcome = PytestGrader(server, store_of(task)).grade(task.hidden, {"calc.py": FORGED})
    assert outcome.tampered


def test_a_suite_that_canaries_do_not_fit_is_run_without(server):
    task = make_task("lines")  # its one test to repair stands behind pairs
    gold = task.tests
    fits = CanaryFits({(task.hidden.task_id, task.hidden.pass_to_pass): False})
    ids = [*task.hidden.fail_to_pass, *task.hidden.pass_to_pass]
    suite = run_graded(server, gold, gold=gold, hidden=task.hidden, fits=fits)
    assert is_clean(suite, ids)
