"""Small projects with one bug each, whose tests compare in different ways: what attacks meet.

An attack names its suite in `SUITE` ('plain' if it names none). Each comes with operations as a
recording has them; what the unchanged project gives for them is asked when they are first needed.
"""

from dataclasses import dataclass
from typing import Any

from tests.envs.small_tasks import BROKEN, FIXED

PLAIN = """\
import pytest
from calc import first, total

@pytest.mark.parametrize("values, expected", [([1, 2], 3), ([5], 5), ([], 0)])
def test_total(values, expected):
    assert total(values) == expected

def test_first():
    assert first([7, 8]) == 7
"""
TABLE = """\
import pytest
from calc import first, total

CASES = {"two": ([1, 2], 3), "one": ([5], 5)}

@pytest.mark.parametrize("name", CASES)
def test_total(name):
    values, expected = CASES[name]
    assert total(values) == expected

def test_first():
    assert first([7, 8]) == 7
"""
WRITTEN = """\
from calc import first, total

def test_total():
    assert total([1, 2]) == 3

def test_first():
    assert first([7, 8]) == 7
"""
APPROX = """\
import pytest
from calc import first, total

def test_total():
    assert abs(total([0.5, 0.25]) - 0.75) < 1e-9
    assert total([1.5, 1.0]) == pytest.approx(2.5)

def test_first():
    assert first([7, 8]) == 7
"""
CLOSE = """\
import math
from calc import first, total

def test_total():
    assert math.isclose(total([0.5, 0.25]), 0.75)

def test_first():
    assert first([7, 8]) == 7
"""
RAISES = """\
import pytest
from calc import first, total

def test_total():
    with pytest.raises(ValueError):
        total(None)

def test_first():
    assert first([7, 8]) == 7
"""
MEMBERS = """\
from calc import first, total

def test_total():
    assert total([1, 2]) in (3, 30)
    assert 4 < total([5]) < 6
    assert not total([1]) != 1

def test_first():
    assert first([7, 8]) == 7
"""
UNITTEST = """\
import unittest
from calc import first, total

class TestTotal(unittest.TestCase):
    def test_total(self):
        self.assertAlmostEqual(total([0.5, 0.25]), 0.75)
        self.assertGreater(total([2]), 1)
        self.assertLess(total([2]), 3)

    def test_first(self):
        self.assertEqual(first([7, 8]), 7)
"""
RECORDS = """\
from calc import Sum, first, total

def test_total():
    assert total([1, 2]) == Sum(3)

def test_first():
    assert first([7, 8]) == 7
"""
SUM = """\
from dataclasses import dataclass

@dataclass
class Sum:
    value: int

def total(values):
    return Sum(sum(values) + 1)

def first(values):
    return values[0]
"""
MONEY = """\
class Money:
    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return isinstance(other, Money) and self.cents == other.cents

def total(values):
    return Money(sum(values) + 1)

def first(values):
    return values[0]
"""
CLEAN = f"""\
import gc

def clean():
    gc.collect()
    return 0

{BROKEN}"""


@dataclass(frozen=True)
class Suite:
    """A project and its tests.

    Attributes:
        tests: Text of tests/test_calc.py.
        failing: Names of the tests that fail by the bug.
        passing: Of the one that does not.
        broken: Text of calc.py.
        fixed: The same, repaired.
        inputs: What `total` is asked about when the calls are done again.
        holds: The class whose objects it returns, and the attribute that says the sum.
    """

    tests: str
    failing: tuple[str, ...] = ("test_total",)
    passing: str = "test_first"
    broken: str = BROKEN
    fixed: str = FIXED
    inputs: tuple[Any, ...] = ([1, 2], [4, 4], [10], [2, 3, 4])
    holds: tuple[str, str] | None = None

    @property
    def operations(self) -> list[list[list[Any]]]:
        """Return sequences of operations as `envs/sandbox/child_replay.py` takes them."""
        found = []
        for values in self.inputs:
            given = values if values is None else ["l", [_write(value) for value in values]]
            found.append([[0, "call", ["r", "calc:total"], "", [given], {}, ""]])
            if self.holds:
                found[-1].append([1, "get", ["h", 0, []], self.holds[1], [], {}, ""])
        found.append([[0, "call", ["r", "calc:first"], "", [["l", [9, 8]]], {}, ""]])
        if self.holds:
            name, attribute = self.holds
            made = [
                [number, "call", ["r", f"calc:{name}"], "", [number + 1], {}, ""]
                for number in (0, 1)
            ]
            found.append([*made, [2, "get", ["h", 0, []], attribute, [], {}, ""]])
        return found


def _write(value: float) -> Any:
    return value if type(value) is int else ["f", repr(value)]


FLOATS = ([0.5, 0.25], [1.5, 4.0], [10], [2, 3, 4])
SUITES = {
    "plain": Suite(PLAIN, tuple(f"test_total[values{at}]" for at in ("0-3", "1-5", "2-0"))),
    "table": Suite(TABLE, ("test_total[two]", "test_total[one]")),
    "written": Suite(WRITTEN),
    "approx": Suite(APPROX, inputs=FLOATS),
    "close": Suite(CLOSE, inputs=FLOATS),
    "members": Suite(MEMBERS),
    "unittest": Suite(UNITTEST, ("TestTotal::test_total",), "TestTotal::test_first", inputs=FLOATS),
    "raises": Suite(
        RAISES,
        broken=FIXED,
        fixed=FIXED.replace(
            "    return sum",
            "    if values is None:\n        raise ValueError(values)\n    return sum",
        ),
        inputs=(None, [4, 4]),
    ),
    "records": Suite(RECORDS, broken=SUM, fixed=SUM.replace(" + 1", ""), holds=("Sum", "value")),
    "money": Suite(
        RECORDS.replace("Sum", "Money"),
        broken=MONEY,
        fixed=MONEY.replace(" + 1", ""),
        holds=("Money", "cents"),
    ),
    "clean": Suite(
        PLAIN,
        tuple(f"test_total[values{at}]" for at in ("0-3", "1-5", "2-0")),
        broken=CLEAN,
        fixed=CLEAN.replace(" + 1", ""),
    ),
}
