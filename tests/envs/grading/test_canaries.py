"""Canaries look like the suite's own tests: nothing but what is right tells them apart."""

import ast
import difflib
import secrets
import unittest

import pytest

from envs.grading.canaries import draw_canaries, order_like
from tests.attacks.snippets import GUESS

SUITE = '''\
"""About sums."""
import unittest
import pytest
from calc import first, total

def test_total():
    # Of two.
    assert total([1, 2]) == 3

def test_texts():
    found = first(["a\u00e9\u4e2d"])
    assert found == "a\u00e9\u4e2d", "said \u00e9"
    assert [first([-1.5])] == [-1.5]

class TestMore(unittest.TestCase):
    def test_all(self):
        self.assertEqual(total([]), 0)
        self.assertTrue(first([1]))

    @pytest.mark.slow
    def test_marked(self):
        assert total([1]) == 1

def test_with(tmp_path):
    assert total([1]) == 1

def test_compared():
    assert total([1]) == first([1])
    assert total([1]) > 0

def test_again():
    for each in [1]:
        assert total([each]) == 1
'''
PATH = "tests/test_calc.py"
NAMES = ["test_total", "test_texts", "TestMore::test_all", "TestMore::test_marked", "test_with"]
NAMES += ["test_compared", "test_again"]
IDS = [f"{PATH}::{name}" for name in NAMES]
FIT = IDS[:3]


def total(values):
    return sum(values)


def first(values):
    return values[0]


def draw(text=SUITE, ids=IDS, *, count=3, like=None, patterns=("test",)):
    tree = {PATH: text}
    return draw_canaries(tree, ids, count=count, like=ids if like is None else like,
                         patterns=patterns, seed=secrets.token_hex())  # fmt: skip


def results(text):
    """Run the tests of a file that take nothing; return what of them passes."""
    space = {"total": total, "first": first}
    exec("\n".join(line for line in text.split("\n") if "from calc" not in line), space)
    case = space["TestMore"]
    found = {name: value for name, value in space.items() if name.startswith("test_")}
    names = [name for name in dir(case) if name.startswith("test_")]
    found |= {f"TestMore::{name}": getattr(case(name), name) for name in names}
    passed = set()
    for name, test in found.items():
        if name != "test_with":
            try:
                test()
                passed.add(f"{PATH}::{name}")
            except AssertionError:
                pass
    return passed


def test_a_pair_stands_in_the_place_of_a_test_and_one_of_it_fails():
    for _ in range(20):
        found = draw()
        assert {*found.like.values()} == found.renamed.keys() == {*FIT}
        passed = results(found.files[PATH])
        assert passed >= {*found.renamed.values()}
        assert not passed & found.like.keys()
        assert len(passed) == len(NAMES) - 1


def test_in_a_pair_one_value_differs_and_names_are_built_alike():
    for _ in range(20):
        found = draw(like=FIT[1:2], count=1)
        (canary, own), (new,) = *found.like.items(), found.renamed.values()
        assert own == FIT[1]
        texts = [
            ast.get_source_segment(found.files[PATH], each)
            for each in ast.parse(found.files[PATH]).body
            if getattr(each, "name", "") in (canary.partition("::")[2], new.partition("::")[2])
        ]
        left, right = (text.partition("\n")[2].split("\n") for text in texts)
        changed = [line for line in difflib.ndiff(left, right) if line[0] in "+-"]
        assert len(changed) == 2
        names = [test_id.removeprefix(f"{FIT[1]}_") for test_id in (canary, new)]
        assert names[0] != names[1] and all(name.isalpha() for name in names)


def test_chance_says_which_stands_first_and_has_which_name():
    orders, names = set(), set()
    for _ in range(240):
        found = draw(like=FIT[:1], count=1)
        text, (canary,), (own,) = found.files[PATH], found.like, found.renamed.values()
        orders.add(text.index(canary[len(PATH) + 2 :]) < text.index(own[len(PATH) + 2 :]))
        names |= {(canary[len(FIT[0]) :], True), (own[len(FIT[0]) :], False)}
    assert len(orders) == 2
    both = {name for name, _ in names}
    assert len(names) == 2 * len(both)


@pytest.mark.parametrize(
    ("text", "ids", "patterns"),
    [
        (SUITE, IDS[3:], ("test",)),
        (SUITE.replace("\n", "\r\n"), IDS, ("test",)),
        ("def test_total(:", IDS[:1], ("test",)),
        ("", IDS[:1], ("test",)),
        (f"{SUITE}\nagain = test_total\n", IDS[:1], ("test",)),
        (SUITE, [IDS[0], "tests/test_b.py::TestB::test_total"], ("test",)),
        (SUITE, IDS, ("*_here", "more_*")),
        (SUITE, [f"{IDS[0]}[1]"], ("test",)),
    ],
    ids=["no fit", "ends", "broken", "empty", "named twice", "inherited", "patterns", "parameters"],
)
def test_where_none_can_be_like_the_suite_they_stand_in_files_of_their_own(text, ids, patterns):
    found = draw(text, ids, like=order_like(ids, ()), patterns=patterns)
    assert not found.renamed
    assert {*found.like.values()} == {""}
    assert PATH not in found.files
    assert len(found.like) == len(found.files) == 3
    for source in found.files.values():
        space = {}
        exec(source, space)
        ((_, test),) = [item for item in space.items() if item[0] != "__builtins__"]
        with pytest.raises(AssertionError):
            test()


def test_those_come_first_that_only_a_repair_makes_pass():
    made = order_like(["b::x", "b::y[1]"], ["a::x", "a::y"])
    assert made[0] == "b::x" and sorted(made[1:]) == ["a::x", "a::y"]
    assert made == order_like(["b::x", "b::y[1]"], ["a::y", "a::x"])
    assert unittest.TestCase  # in the suite above


WRITTEN = """\
from calc import first, total

def test_few():
    assert total([]) == 0

def test_two():
    assert total([2, 0]) == 2

def test_three():
    assert total([1, 2]) == 3

def test_four():
    assert total([2, 2]) == 4

def test_five():
    assert total([5]) == 5
    assert total([3, 3]) == 6

def test_larger():
    assert total([4, 4]) == 8
    assert total([9, -2]) == 7

def test_forms():
    assert total([8, 8]) == 0x10
    assert total([600, 400]) == 1_000
    assert total([1500, 500]) == 2e3
    assert total([0.5, 0.75]) == 1.25
    assert total([300, -330]) == -30

def test_round_numbers():
    assert total([40, 40]) == 80
    assert total([90, 210]) == 300
    assert total([13, 16]) == 29

def test_red():
    assert first(["red", "tan"]) == "red"

def test_tan():
    assert first(["tan", "red"]) == "tan"

def test_small():
    assert first(["small boxes", "other boxes"]) == "small boxes"

def test_other():
    assert first(["other boxes", "small boxes"]) == "other boxes"

def test_gate():
    assert first("west gate") == "w"
    assert total(["east", " ", "gate"]) == "east gate"
    assert first(['"']) == '"'
"""


def halves(found):
    """Return the lines of the suite's own test and of its canary, without their names."""
    text = found.files[PATH]
    tests = {each.name: ast.get_source_segment(text, each).split("\n")[1:]
             for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)}  # fmt: skip
    ((canary, own),) = found.like.items()
    return [tests[name.rpartition(":")[2]] for name in (found.renamed[own], canary)]


@pytest.fixture(scope="module")
def pairs():
    ids = [f"{PATH}::{each.name}" for each in ast.parse(WRITTEN).body[1:]]
    return [halves(draw(WRITTEN, ids, like=[test_id], count=1)) for test_id in ids * 40]


SPACE = {}
exec(GUESS, SPACE)


@pytest.mark.parametrize("name", SPACE["RULES"])
def test_no_rule_says_which_of_a_pair_is_the_suites(pairs, name):
    rules = {name: SPACE["RULES"][name]}
    told = [SPACE["guess"](own, canary, rules) == 0 for own, canary in pairs
            if SPACE["guess"](own, canary, rules) is not None]  # fmt: skip
    assert len(told) < 20 or 0.25 < sum(told) / len(told) < 0.75
