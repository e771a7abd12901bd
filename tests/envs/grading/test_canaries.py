"""Canaries look like the suite's own tests: nothing but what is right tells them apart."""

import ast
import difflib
import secrets
import unittest

import pytest

from envs.grading.canaries import draw_canaries, order_like

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
    for _ in range(60):
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
