import ast

import pytest

from envs.sources.grammar import (
    OPERANDS,
    OPERATIONS,
    WRAPPERS,
    list_combinations,
    list_split_combinations,
    load_function,
    phrase,
    write_function,
)

SPLITS = ("train", "dev", "test")


def test_there_are_over_200_combinations_with_a_phrase_each():
    assert len(list_combinations()) >= 200
    assert len({phrase(combination) for combination in list_combinations()}) == len(
        list_combinations()
    )


def test_splits_are_disjoint_and_complete_also_by_meaning():
    by_split = {split: list_split_combinations(split) for split in SPLITS}
    assert sorted(c for some in by_split.values() for c in some) == sorted(list_combinations())
    meanings = {split: {c.meaning for c in some} for split, some in by_split.items()}
    for one, other in [("train", "dev"), ("train", "test"), ("dev", "test")]:
        assert not meanings[one] & meanings[other]


def test_train_holds_every_atom():
    train = list_split_combinations("train")
    assert {c.wrapper for c in train} == set(WRAPPERS)
    assert {c.operation for c in train} == set(OPERATIONS)
    assert {c.operands for c in train} == set(OPERANDS)


@pytest.mark.parametrize("split", SPLITS)
def test_one_and_two_lines_mean_the_same(split):
    for combination in list_split_combinations(split):
        one = load_function(write_function("f", combination, body="one"))
        two = load_function(write_function("f", combination, body="two"))
        for a, b in [(3, 5), (-7, 2), (4, -9), (-1, -1)]:
            assert (type(one(a, b)), one(a, b)) == (type(two(a, b)), two(a, b)), combination


def test_the_wrapper_is_outermost_whatever_binds_tighter():
    known = {
        ("neg", "minus", "a b"): lambda a, b: -(a - b),
        ("twice", "plus", "a b"): lambda a, b: 2 * (a + b),
        ("square", "minus", "b a"): lambda a, b: (b - a) ** 2,
        ("cap", "times", "a 5"): lambda a, b: min(9, a * 5),
        ("floor", "larger", "a 2"): lambda a, b: max(0, max(a, 2)),
        ("more", "mod", "a b"): lambda a, b: (a % b) + 1,
    }
    found = {(c.wrapper, c.operation, c.operands): c for c in list_combinations()}
    for key, meant in known.items():
        function = load_function(write_function("f", found[key], body="one"))
        for a, b in [(3, 5), (-7, 2), (4, -9)]:
            assert function(a, b) == meant(a, b), key


def test_text_is_short_and_regular():
    for combination in list_combinations():
        source = write_function("tobu", combination, body="one")
        assert ast.get_docstring(ast.parse(source).body[0]) == phrase(combination)
        assert source.count("\n") == 3
        assert max(map(len, source.splitlines())) <= 48
