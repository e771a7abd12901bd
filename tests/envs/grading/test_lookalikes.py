"""A lookalike is written as the value is, known as it is, and another value of its type."""

import ast
import re

import pytest

from envs.grading.lookalikes import Known, count_runs, draw_lookalike

FILE = """
from calc import first  # of 25 boxes
def test_a():
    assert first("red boxes") == VALUE
def test_b():
    assert first(["cases", "seven pages", 'Boxed', 31, 42, 300, 0xFF]) == "seven cases"
def test_c():
    assert [first(31), first(67), 0.5, 1.25, 9, 8, 7, 1, 2, 3, 4] == 67
"""
BESIDE = 'def test_a():\n    assert first("red boxes") == '


def draw(written, *, test=BESIDE, file=FILE, others=(), strictly=True):
    file = file.replace("VALUE", written)
    return draw_lookalike(written, Known(test, file, others), strictly=strictly)


@pytest.mark.parametrize(
    "written",
    ["3", "67", "300", "-42", "0x1F", "1_250", "2e3", "1.25", ".75", '"seven"', "'red'", 'u"cases"',
     'r"\\d boxes"', '"\\n cases"', "'x\\u00e9y 31'", "True"],
)  # fmt: skip
def test_it_is_another_value_written_alike(written):
    seen = {draw(written, strictly=False) for _ in range(40)} - {None}
    assert seen
    for each in seen:
        assert type(ast.literal_eval(each)) is type(ast.literal_eval(written))
        assert ast.literal_eval(each) != ast.literal_eval(written)
        assert len(each) == len(written) or written == "True"
        assert re.sub(r"\w", "", each) == re.sub(r"\w", "", written)
        assert len(written) == 1 or each.count("0") == written.count("0")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('"red"', set()),  # stands in the test, which has no other word of three letters
        ('"cases"', {'"seven"', '"pages"'}),  # in quotes elsewhere; not "boxes", which the test has
        ("67", {"31", "42", "25", "55"}),
        ('"Boxed"', set()),  # no other has a capital
    ],
)
def test_it_is_known_as_the_value_is(written, expected):
    seen = {draw(written, file=FILE + "# 55 is 9") for _ in range(200)} - {None}
    assert seen <= expected and len(seen) >= len(expected) - 1


def test_what_stands_nowhere_becomes_what_stands_nowhere():
    others = ["gamma = 'delta'"]
    for written in ('"omega"', "84"):
        for _ in range(50):
            new = draw(written, others=others)
            if new is not None:
                (run,) = re.findall(r"\w+", new)
                assert not any(count_runs(text)[run] for text in (BESIDE, FILE, *others))


def test_what_stands_in_another_file_becomes_a_word_of_that_file():
    others = ["nothing", "gamma = 'delta', 'omega', 'seven', 'mu'"]
    assert {draw('"omega"', others=others) for _ in range(80)} == {'"gamma"', '"delta"'}


def test_it_does_not_stand_beside_other_words_than_the_value_does():
    file = FILE + "# seven cases, seven pages\n"
    seen = {draw('"seven cases"', file=file) for _ in range(80)}
    assert seen <= {None, '"seven pages"'}


def test_they_are_drawn_as_often_as_they_stand():
    file = FILE + "'lemon' 'lemon' 'lemon' 'lemon' 'lemon' 'lemon' 'lemon' 'lemon' 'lemon' 'grape'"
    seen = [draw('"pages"', file=file) for _ in range(300)]
    assert seen.count('"lemon"') > 3 * seen.count('"grape"') > 0
