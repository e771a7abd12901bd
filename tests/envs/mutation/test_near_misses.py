import pytest

from envs.mutation.near_misses import MAX_NEAR_MISSES, list_near_misses
from envs.mutation.operators import apply, list_mutations
from envs.syntax import parse_python

TEXT = """def f(a, b):
    if a > 10 and b:
        raise ValueError(a)
    c = min(g(a + 1, b), a)
    return c[a:b] if c else None
"""


def bug(operator, line):
    found = [each for each in list_mutations(TEXT, path="f.py") if each.operator == operator]
    return next(each for each in found if each.line == line)


@pytest.mark.parametrize(
    ("operator", "line"), [("stmt_delete_assign", 4), ("if_drop_guard", 2), ("return_none", 5)]
)
def test_what_was_taken_away_is_changed_a_little_and_nothing_else(operator, line):
    mutation = bug(operator, line)
    misses = list_near_misses(TEXT, mutation)
    assert 0 < len(misses) <= MAX_NEAR_MISSES
    assert misses == list_near_misses(TEXT, mutation)
    for miss in misses:
        assert mutation.start <= miss.start <= miss.end <= mutation.end
        assert apply(TEXT, miss) not in (TEXT, apply(TEXT, mutation))
        parse_python(apply(TEXT, miss))


@pytest.mark.parametrize(
    ("line", "simpler"),
    [
        ("d(a.host)", "(a.host)"),
        ("a.lower()", "(a)"),
        ("(a / b).rounded(c)", "(a / b)"),
        ("g(a, b, sure=True)", "g(a, b)"),
        ("a or b", "(a)"),
        ("(a + 1) * b", "(a + 1)"),
        ("g(a if b else c)", "g((c))"),
    ],
)
def test_what_is_simpler_comes_first(line, simpler):
    text = f"def f(a, b, c):\n    return {line}\n"
    found = list_mutations(text, path="f.py")
    mutation = next(each for each in found if each.operator == "return_none")
    texts = [apply(text, miss) for miss in list_near_misses(text, mutation)]
    assert f"def f(a, b, c):\n    return {simpler}\n" in texts


def test_of_a_number_the_other_neighbour_is_near():
    (miss,) = list_near_misses(TEXT, bug("int_off_by_one", 2))
    assert miss.replacement in ("9", "11") != bug("int_off_by_one", 2).replacement


@pytest.mark.parametrize(
    ("operator", "line"),
    [("cmp_negate", 2), ("bool_swap", 2), ("api_swap", 4), ("call_arg_swap", 4), ("if_negate", 5)],
)
def test_where_code_was_only_exchanged_there_are_none(operator, line):
    assert list_near_misses(TEXT, bug(operator, line)) == []
