"""What candidates raise, return, print and name can hold anything, and files be in any encoding."""

import pytest

from envs.grading.bwrap_runner import doubt_pass
from envs.grading.canaries import draw_canaries
from envs.grading.graders import IoGrader, PytestGrader
from envs.grading.test_suite import run_suite
from envs.records import IoCase, TestReport
from envs.sandbox.encoding import encode_value
from envs.sandbox.fork_server import ForkServer
from envs.source_text import BOM, decode_source
from envs.tasks.store import BuiltTask
from tests.envs.small_tasks import hidden_task, is_solved, pytest_task, repair_task, store_of
from tests.envs.world import CHAT

# Body of a function of the candidate, and what an agent is told of it.
SAID = {
    "lone surrogate": ("raise ValueError('a\\ud800b')", "raised ValueError: a\\ud800b"),
    "class name": ("raise type('E\u2028', (Exception,), {})", "raised E"),
    "NUL and control": ("raise ValueError('a\\0\\x1bb')", "raised ValueError: a\0\x1bb"),
    "other line ends": ("raise ValueError('a\\u2028b\\x85c')", "raised ValueError: a b c"),
    "huge key": ("raise KeyError(10**5000)", "raised KeyError"),
    "evil str": ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})", "raised E"),
    "huge int": ("return 10**5000", "returned int too large"),
    "nan": ("return float('nan')", "returned nan"),
    "inf": ("return float('inf')", "returned inf"),
    "surrogate returned": ("return '\\ud800'", "returned '\\ud800'"),
    "unassigned": ("return '\\u0378\\U000e0fff'", "returned '\\u0378\\U000e0fff'"),
    "deep": ("x = []\n    for _ in range(99): x = [x]\n    return x", "returned recursion"),
    "exit": ("raise SystemExit('\\udfff')", "raised SystemExit: \\udfff"),
    "printed": ("print('\\x85{}\\u2028'); return 2", "returned 2"),
    "bytes": ("return b'\\xff\\x85'", "returned b'\\xff\\x85'"),
    "lines on the pipe": ("import os; os.write(3, b'\\x85{}\\xff\\n[' * 9 + b'\\n')", "returned"),
    "deep on the pipe": ("import os; os.write(3, b'[' * 9999 + b'\\n')", "returned None"),
    "huge on the pipe": ("import os; os.write(3, b'{\"call\": 1' + b'0' * 9999 + b'}\\n')",
                         "returned None"),
}  # fmt: skip


@pytest.fixture(scope="module")
def told() -> TestReport:
    """Run all of them once."""
    bodies = [f"def f{n}():\n    {body}\n" for n, (body, _) in enumerate(SAID.values())]
    cases = tuple(
        IoCase(id=name, function=f"calc:f{n}", args=(), expected=encode_value("other"))
        for n, name in enumerate(SAID)
    )
    task = BuiltTask(repair_task("io", visible_cases=cases), hidden_task("io", (), ()), {})
    with ForkServer(preload="io") as server:
        grader = IoGrader(server, store_of(task))
        return grader.run_visible(task.public, {"calc.py": "\n".join(bodies)}, "")


@pytest.mark.parametrize("name", SAID)
def test_an_agent_is_told_what_a_call_did(told: TestReport, name: str) -> None:
    message = dict(told.failures)[name]
    assert SAID[name][1] in message
    assert CHAT.decode(CHAT.encode(message)) == message
    assert TestReport.model_validate_json(told.model_dump_json().encode()) == told


ODD_TESTS = """
import pytest

ODD = ["\\ud800", "\\u2028", "\\x85", "\\0", "\U0001f600", "a\\nb", "\\x1c"]

@pytest.mark.parametrize("x", ODD)
def test_ids(x):
    assert True

@pytest.mark.parametrize("x", [1], ids=["caf\u00e9\\u2028"])
def test_named(x):
    assert True

@pytest.mark.parametrize("x", ["\\ud800", "\\x85{}\\x85", "\\0\\x1b", "a\\u2028b"])
def test_red(x):
    print(repr(x))
    raise ValueError(x)

def test_huge():
    assert 10**5000 == 1

class Odd(Exception):
    def __str__(self):
        return "\\udfff"

def test_odd():
    raise Odd
"""
PATHS = ["test_odd.py", "test_\u2028.py", "tests/test_\u00e9\x85.py"]


@pytest.mark.parametrize("explain", [True, False], ids=["explained", "plain"])
def test_reports_of_pytest_may_hold_anything(explain: bool) -> None:
    tree = dict.fromkeys(PATHS, ODD_TESTS)
    with ForkServer(preload="pytest") as server:
        first = run_suite(server, tree, ids=None, wall_s=60.0)
        drawn = draw_canaries(tree, first.passed, count=3, like=(), patterns=("test",), seed="")
        again = run_suite(server, tree, ids=first.passed, wall_s=60.0, canaries=drawn)
        red = run_suite(server, tree, ids=first.failed, wall_s=60.0, explain=explain)
    assert len(first.passed) == 8 * len(PATHS)
    assert len(first.failed) == 6 * len(PATHS)
    assert (again.passed, again.complete, again.forged) == (first.passed, True, False)
    assert again.num_canaries_failed == 3
    assert (red.failed, red.forged) == (first.failed, False)
    for text in (*first.passed, *red.messages.values(), *red.messages):
        assert CHAT.decode(CHAT.encode(text)) == text
    assert any("\\ud800" in text for text in red.messages.values())


CALC = """def total(values):
    return sum(values)  # {}


def first(values):
    return values[0]
"""
TEST = """import pytest
from calc import first, total

@pytest.mark.parametrize("values", [[1, 2], [5], []])
def test_total(values):
    assert total(values) == sum(values)

def test_first():
    assert first(['{0}', 8]) == '{0}'
    assert len('{0}') == 2
"""
ENCODED = {
    "BOM": (BOM, "\u00e9\u2028", "utf-8"),
    "latin-1": ("# coding: latin-1\n", "\u00e9\x85", "latin-1"),
    "cp1252": ("# coding: cp1252\n", "\u20ac\u00e9", "cp1252"),
    "euc-jp": ("# coding: euc-jp\n", "\u65e5\u672c", "euc-jp"),
    "odd characters": ("\x0c\n", "\x1c\u2029", "utf-8"),
}


@pytest.fixture(scope="module")
def server():
    with ForkServer(preload="pytest") as server:
        yield server


def encoded(name: str, end: str):
    """Return a task whose files are in an encoding; as text, the way a project is read."""
    head, inside, codec = ENCODED[name]
    texts = []
    for text in (CALC, TEST):
        whole = (head + text.replace("{0}", inside).replace("{}", inside)).replace("\n", end)
        texts.append(decode_source(whole.encode(codec)))
    gold, tests = texts
    task = pytest_task(tests=tests)
    broken = gold.replace("sum(values)", "sum(values) + 1")
    trees = {**task.workspace, "calc.py": broken}, {**task.tests, "calc.py": gold}
    return BuiltTask(task.public, task.hidden, *trees), gold


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("name", ENCODED)
def test_a_suite_in_any_encoding_is_graded(server: ForkServer, name: str, end: str) -> None:
    task, gold = encoded(name, end)
    grader = PytestGrader(server, store_of(task))
    assert is_solved(grader.grade(task.hidden, {"calc.py": gold}))
    noop = grader.grade(task.hidden, task.workspace)
    assert (noop.fail_to_pass_rate, noop.pass_to_pass_rate) == (0.0, 1.0)
    assert not noop.tampered


@pytest.mark.bubblewrap
@pytest.mark.parametrize("name", ENCODED)
def test_the_second_runner_reads_the_same_files(name: str) -> None:
    task, gold = encoded(name, "\r\n")
    tree = {**task.tests, "calc.py": gold}
    ids = [*task.hidden.fail_to_pass, *task.hidden.pass_to_pass]
    odd = {f"test_odd\u2028\x85.py::test_{n}" for n in range(2)}
    tree["test_odd\u2028\x85.py"] = "def test_0(): assert 1\ndef test_1(): assert 1 == 1\n"
    assert doubt_pass(tree, gold=tree, ids=[*ids, *odd], limit_s=60.0) == ""
    wrong = {**tree, "calc.py": task.workspace["calc.py"]}
    assert "do not pass" in doubt_pass(wrong, gold=tree, ids=ids, limit_s=60.0)
