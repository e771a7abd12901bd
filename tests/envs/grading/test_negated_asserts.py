"""The copy of a suite: what is honest fails in it, what says yes to everything passes."""

import math
import textwrap

import pytest

from envs.grading.asked_otherwise import Checks, list_others
from envs.grading.negated_asserts import negate_asserts
from tests.envs.grading.test_bwrap_runner import IDS, SUITE

HONEST = """
import math, unittest, pytest
from dataclasses import dataclass

@dataclass
class Sum:
    value: int

def total(values):
    return sum(values)

def fail(values):
    raise ValueError(values)
"""
YES = """
import math, unittest, pytest
from dataclasses import dataclass, field

class Yes(float):
    def __eq__(self, other):
        return True
    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None
    def __sub__(self, other):
        return 0.0
    __rsub__ = __add__ = __radd__ = __sub__
    def __round__(self, places=None):
        return 0
    def __contains__(self, value):
        return True

class AnyKind(type):
    def __instancecheck__(cls, value):
        return True

class Sum(metaclass=AnyKind):
    def __init__(self, value):
        self.value = value
    def __eq__(self, other):
        return True

def total(values):
    return Yes(9)

class Every(ValueError, LookupError, ArithmeticError):
    pass

def fail(values):
    raise Every
"""
FORMS = {
    "==": "assert total([1, 2]) == 3",
    "turned": "assert 3 == total([1, 2])",
    "!=": "assert total([1, 2]) != 4",
    "<": "assert total([1, 2]) < 4",
    "chain": "assert 2 < total([1, 2]) < 4",
    "<=": "assert total([1, 2]) <= 3",
    ">=": "assert total([1, 2]) >= 3",
    "in": "assert total([1, 2]) in (3, 30)",
    "not": "assert not total([1, 2]) != 3",
    "and": "assert True and total([1, 2]) == 3",
    "approx": "assert total([0.5]) == pytest.approx(0.5)",
    "list of approx": "assert [total([0.5])] == pytest.approx([0.5])",
    "near": "assert abs(total([0.5]) - 0.5) < 1e-9",
    "turned near": "assert abs(0.5 - total([0.5])) <= 1e-9",
    "close": "assert math.isclose(total([0.5]), 0.5)",
    "object": "assert Sum(3) == Sum(3)",
    "list": "assert [total([1]), 7] == [1, 7]",
    "dict": "assert {'a': total([1])} == {'a': 1}",
    "belongs": "assert isinstance(Sum(3), Sum)",
    "raises": "with pytest.raises(ValueError):\n    fail([])",
    "raises as": "with pytest.raises(ValueError) as e:\n    fail([])\nassert e.value.args != 0",
    "in a loop": "for n in (1, 2):\n    assert total([n]) == n",
    "in a branch": "if True:\n    assert total([1]) == 1",
    "assertEqual": "case.assertEqual(total([1, 2]), 3)",
    "assertAlmostEqual": "case.assertAlmostEqual(total([0.5]), 0.5)",
    "assertGreater": "case.assertGreater(total([2]), 1)",
    "assertIn": "case.assertIn(total([2]), [2, 3])",
    "assertRaises": "with case.assertRaises(ValueError):\n    fail([])",
}
OTHERWISE = {  # where not every comparison may say yes, or where it is no value that lies
    "close": ("def total(values):", "math.isclose = lambda a, b: True\ndef total(values):"),
    "not": ("__ne__ = __lt__", "__ne__ = lambda self, other: False\n    __lt__"),
}


def run_copy(source, body):
    """Return whether the copy of a test passes."""
    text = f'def test_it():\n    """Say."""\n{textwrap.indent(body, "    ")}\n'
    changed, must_fail = negate_asserts({"a/test_a.py": text}, ["a/test_a.py::test_it"])
    assert must_fail == ["a/test_a.py::test_it"]
    copied, helper = changed["a/test_a.py"], next(name for name in changed if "/" not in name)
    module = helper.removesuffix(".py")
    space = {module: Checks}
    exec(source + "\ncase = unittest.TestCase()\n", space)
    exec(text, space)
    space["test_it"]()  # passes as it is
    exec(copied.replace(f"from {module} import Checks as {module}\n", ""), space)
    try:
        space["test_it"]()
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("form", FORMS)
def test_an_honest_test_fails_in_the_copy(form):
    assert not run_copy(HONEST, FORMS[form])


@pytest.mark.parametrize("form", FORMS)
def test_what_says_yes_to_everything_passes_in_the_copy(form, monkeypatch):
    monkeypatch.setattr(math, "isclose", math.isclose)  # as it was, in the end
    assert run_copy(YES.replace(*OTHERWISE.get(form, ("", ""))), FORMS[form])


@pytest.mark.parametrize(
    "source",
    [
        "@dataclass\nclass Sum:\n    value: int = field(compare=False)",
        "class Sum:\n    def __init__(s, v): s.v = v\n"
        "    def __eq__(s, other): return isinstance(other, Sum)",
        "class Sum:\n    v = property(lambda s: 0, lambda s, v: None)\n"
        "    def __init__(s, v): s.v = v\n"
        "    def __eq__(s, other): return isinstance(other, Sum) and s.v == other.v",
        "class Sum:\n    one = []\n    def __new__(cls, v):\n"
        "        cls.one = cls.one or [object.__new__(cls)]\n        return cls.one[0]\n"
        "    def __init__(s, v): s.v = v\n    def __eq__(s, o): return s.v == o.v",
    ],
    ids=["uncompared field", "class only", "constant attribute", "one object"],
)
def test_objects_of_one_class_that_are_all_equal_pass_in_the_copy(source):
    start = "import unittest\nfrom dataclasses import dataclass, field\n"
    made = f"{start}{source}\ndef total(values):\n    return Sum(sum(values) + 1)\n"
    assert run_copy(made, "assert total([1, 2]) == Sum(3)")


@pytest.mark.parametrize("value", [1, 1.5, float("inf"), "a", "", b"x", (1, [2]), {}, {1: "a"}, {1},
                                   None, True, object(), 2**80, Checks()])  # fmt: skip
def test_others_differ(value):
    others = list_others(value)
    assert others
    assert all(other != value for other in others)


def test_names_parameters_and_what_asserts_nothing_stay():
    changed, must_fail = negate_asserts({"tests/test_all.py": SUITE}, IDS)
    assert sorted(must_fail) == sorted(IDS)
    text = changed["tests/test_all.py"]
    assert text.startswith('"""Docstring first."""\nfrom __future__ import annotations\nfrom _')
    assert "assertEqual(" not in text and "assert " not in text.replace("assert_", "")
    assert negate_asserts({"test_a.py": "def test_a(:"}, ["test_a.py::test_a"]) == ({}, [])
    plain = {"test_a.py": "def test_a():\n    f()\ndef test_b():\n    yield 1\n    assert 1\n"}
    assert negate_asserts(plain, ["test_a.py::test_a", "test_a.py::test_b"])[1] == []
