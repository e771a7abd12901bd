import random

import pytest

from envs.sources.facts import (
    FACT_KINDS,
    Fact,
    Use,
    count_rows,
    draw_fact,
    list_values,
    read_kind,
    read_use,
)
from envs.sources.grammar import list_combinations, load_function, phrase


@pytest.mark.parametrize("kind", FACT_KINDS)
def test_a_module_states_a_value_that_takes_all_rows_to_know(kind):
    rng, values = random.Random(0), set()
    for fact in (draw_fact(rng, kind) for _ in range(300)):
        assert len(fact.rows) == count_rows(kind)
        assert fact.lines == [fact.lines[0], *fact.rows, '"""']
        assert read_kind(fact.lines[0]) == kind
        values.add(fact.value)
    assert values == set(list_values(kind))
    assert len(values) >= 7


def test_the_smallest_size_the_largest_limit_and_all_steps_count():
    assert Fact("unit", ("plot 9", "edge 4", "lend 7")).value == "4"
    assert Fact("limit", ("plot 9", "edge 14", "lend 7")).value == "14"
    assert Fact("rule", ("twice x", "minus x")).value == "twice x, then minus x"


def test_what_a_function_uses_is_read_back():
    for use in [Use("unit", "m3"), Use("rule", "m12"), Use("limit", "m0")]:
        for combination in list_combinations():
            assert read_use(use.describe(combination)) == (combination, use)
    assert read_use(phrase(list_combinations()[0])) is None


@pytest.mark.parametrize(
    ("kind", "value", "meant"),
    [
        ("unit", "7", lambda x: x // 7),
        ("limit", "4", lambda x: min(4, x)),
        ("rule", "square of x, then minus x", lambda x: -(x**2)),
        ("rule", "minus x, then square of x, then 1 more than x", lambda x: (-x) ** 2 + 1),
        ("rule", "larger of 0 and x, then twice x", lambda x: 2 * max(0, x)),
    ],
    ids=["unit", "limit", "square", "minus", "larger"],
)
def test_code_does_what_the_docstring_says_last(kind, value, meant):
    use = Use(kind, "m1")
    for combination in list_combinations():
        plain = load_function(Use("limit", "m1").write("f", combination, "1000000"))
        function = load_function(use.write("f", combination, value))
        for a, b in [(3, 5), (-7, 2), (4, -9)]:
            assert function(a, b) == meant(plain(a, b)), use.describe(combination)
