"""Two tasks small enough to read, one for each grader, and a shorthand to build others."""

from envs.records import Difficulty, HiddenTask, IoCase, Outcome, Provenance, RepairTask
from envs.sandbox.encoding import encode_value
from envs.tasks.store import BuiltTask, TaskStore

BROKEN = (
    "def total(values):\n    return sum(values) + 1\n\n\ndef first(values):\n    return values[0]\n"
)
FIXED = BROKEN.replace(" + 1", "")
TESTS = """\
import pytest
from calc import first, total

@pytest.mark.parametrize("values", [[1, 2], [5], []])
def test_total(values):
    assert total(values) == sum(values)

def test_first():
    assert first([7, 8]) == 7
"""
VISIBLE = "from calc import total\n\ndef test_total():\n    assert total([1, 2]) == 3\n"


def io_task(workspace=None, *, limit_s=10.0):
    cases = [
        case("h0", "calc:total", [1, 2], 3),
        case("h1", "calc:total", [], 0),
        case("h2", "calc:first", [7, 8], 7),
        case("h3", "calc:first", ["a"], "a"),
    ]
    public = repair_task("io", visible_cases=(case("v0", "calc:total", [2, 2], 4),))
    hidden = hidden_task("io", ("h0", "h1"), ("h2", "h3"), cases=tuple(cases), limit_s=limit_s)
    return BuiltTask(public, hidden, workspace or {"calc.py": BROKEN, "README": "sums\n"})


def pytest_task(*, tests=TESTS, fail_to_pass=None, pass_to_pass=None, limit_s=20.0):
    path = "tests/test_calc.py"
    if fail_to_pass is None:
        fail_to_pass = [f"{path}::test_total[values{index}]" for index in range(3)]
        pass_to_pass = [f"{path}::test_first"]
    public = repair_task("pytest", visible_tests=("tests/test_seen.py::test_total",))
    hidden = hidden_task(
        "pytest", tuple(fail_to_pass), tuple(pass_to_pass), tests_sha="tree", limit_s=limit_s
    )
    workspace = {"calc.py": BROKEN, "tests/test_seen.py": VISIBLE}
    return BuiltTask(public, hidden, workspace, {"calc.py": FIXED, path: tests})


def case(name, function, argument, expected):
    return IoCase(id=name, function=function, args=(argument,), expected=encode_value(expected))


def repair_task(name, **fields):
    return RepairTask(
        id=name,
        project="calc",
        split="train",
        statement="total is wrong",
        workspace_sha=f"workspace-{name}",
        editable=("calc.py",),
        difficulty=Difficulty(sites=1, files=1, lines=6, failing_tests=1),
        provenance=Provenance(
            source="path", origin="here", licence="Apache-2.0", sha256="", generator="", seed=0
        ),
        **({"visible_tests": ()} | fields),
    )


def hidden_task(name, fail_to_pass, pass_to_pass, **fields):
    return HiddenTask(
        task_id=name,
        grader=name,
        fail_to_pass=fail_to_pass,
        pass_to_pass=pass_to_pass,
        unseen_tests=(),
        operators=(),
        gold_edits=(),
        gold_patch="",
        gold_spans=(),
        **fields,
    )


def store_of(*tasks):
    return TaskStore.of(tasks)


def is_solved(outcome: Outcome) -> bool:
    whole = outcome.fail_to_pass_rate == outcome.pass_to_pass_rate == 1.0
    return whole and not outcome.tampered and outcome.unscorable is None
