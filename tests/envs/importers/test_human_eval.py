"""HumanEval-style programs: modules of their own, tests of two forms."""

import pytest

from envs.importers.check_instance import import_instances
from envs.importers.human_eval import read_program
from envs.importers.instance import RejectError
from envs.importers.instance_file import read_instances
from envs.importers.repository import without_repository
from tests.envs.importers import forty_programs

PROMPT = '''import math


def scale():
    return 2


def area(side: float) -> float:
    """Return the area of some squares.

    >>> area(1)
    2
    """
'''
CHECK = """

METADATA = {'author': 'x'}


def check(area):
    assert area(1) == 2
    sides = [2, 3]
    for side in sides:
        assert area(side) == \\
            scale() * math.pow(side, 2)
    assert True, "This prints if this assert fails 1 (good for debugging!)"
    assert abs(area(0.5) - 0.5) < 1e-6

check(area)
"""
TESTS = """import math

from solution import area, scale


METADATA = {'author': 'x'}


def test_1():
    assert area(1) == 2


def test_2():
    sides = [2, 3]
    for side in sides:
        assert area(side) == \\
            scale() * math.pow(side, 2)


def test_3():
    sides = [2, 3]
    assert abs(area(0.5) - 0.5) < 1e-6
"""


def program(**fields):
    return {
        "task_id": "Python/0",
        "prompt": PROMPT,
        "canonical_solution": "    return scale() * side ** 2\n",
        "buggy_solution": "    return scale() * side\n",
        "test": CHECK,
        "entry_point": "area",
    } | fields


def tree(**fields):
    return read_program(program(**fields)).plant({})


def test_each_assertion_of_a_check_becomes_a_test():
    trees = tree()
    assert [line for line in trees.pristine["test_solution.py"].split("\n") if line] == [
        line for line in TESTS.split("\n") if line
    ]
    assert trees.pristine["solution.py"] == PROMPT + "    return scale() * side ** 2\n"
    assert trees.broken["solution.py"] == PROMPT + "    return scale() * side\n"


def test_a_candidate_of_another_name_and_whole_programs_and_modules():
    whole = "def area(side):\n    return side\n"
    trees = tree(
        prompt="Write the area.", canonical_solution=whole, buggy="def area(side): return 0",
        test="def check(candidate):\n    assert candidate(1) == 1\n",
    )  # fmt: skip
    assert trees.pristine["solution.py"] == whole
    assert "from solution import area\n\ncandidate = area\n" in trees.pristine["test_solution.py"]
    test = "from shapes.squares import area\n\n\ndef test_x():\n    assert area(1) == 1\n"
    trees = tree(test=test)
    assert trees.pristine["shapes/squares.py"].startswith(PROMPT)
    assert trees.pristine["test_squares.py"].endswith(test)
    assert read_program(program(prompt="Write the area.")).statement == "Write the area."


def test_a_test_class_may_have_any_name():
    test = "import unittest\n\nclass Areas(unittest.TestCase):\n    def test_one(self):\n"
    test += "        self.assertEqual(area(1), 2)\n"
    assert tree(test=test).pristine["test_solution.py"].endswith(test)
    with pytest.raises(RejectError, match="nor test functions"):
        tree(test="class Testimony:\n    pass\n")


def test_helpers_that_assert_and_bodies_beside_their_heads():
    test = """
def near(one, two):
    assert abs(one - two) < 1e-6


def check(candidate):
    def positive(x):
        assert candidate(x) > 0
    side = 2
    positive(side)
    near(candidate(side), 8)
"""
    text = tree(test=test).pristine["test_solution.py"]
    assert text.count("    def positive(x):") == 2
    assert text.count("def test_") == 2
    assert text.endswith("    side = 2\n    near(candidate(side), 8)\n")
    test = "def check(f): assert f(1) == 2; assert f(2) == 8\ncheck(area)\n"
    text = tree(test=test).pristine["test_solution.py"]
    assert text.endswith(
        "def test_1():\n    assert f(1) == 2\n\n\ndef test_2():\n    assert f(2) == 8\n"
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"canonical_solution": "return ("}, "canonical_solution is no program that defines"),
        ({"buggy_solution": "    return ("}, "buggy is no program that defines the entry point"),
        ({"entry_point": "volume"}, "defines the entry point .volume."),
        ({"test": "def check("}, "test is no Python"),
        ({"test": "assert area(1)"}, "neither check.candidate. nor test functions"),
    ],
)
def test_programs_that_cannot_be_used_say_why(fields, reason):
    with pytest.raises(RejectError, match=reason):
        tree(**fields)


def test_one_test_of_many_cases_and_one_check_become_tasks(tmp_path):
    path = tmp_path / "programs.jsonl"
    forty_programs.write(path, num_programs=2)
    wrong = program(task_id="no", canonical_solution="    return 3\n")
    forty_programs.append(path, [program(), wrong])
    found = list(
        import_instances(
            read_instances(path), without_repository(python=None, cache_dir=tmp_path / "cache")
        )
    )
    for each in found[:3]:
        assert each.task is not None, each.reject
        assert len(each.task.public.visible_tests) == 1
        assert set(each.task.hidden.fail_to_pass) - set(each.task.public.visible_tests)
    shown = found[0].task.workspace["test_solution.py"]
    assert shown.count("([") == 1, "one case is shown"
    assert found[0].task.tests["test_solution.py"].count("([") > 2
    assert found[2].task.workspace["test_solution.py"].count("def test_") == 1
    assert found[3].reject == (
        "no test passes without the bug (test_solution.py::test_1: assert 3 == 2)"
    )
