import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.mutation.bug import NUM_SITES, Bug, Symptoms, combine, combine_files
from envs.mutation.operators import list_mutations
from envs.mutation.patches import apply_edits, make_edits
from envs.syntax import parse_python

MODULE = '''"""Module {name}: \u00fc."""


def first(a, b):
    if a < b:
        return a  # \u00e4
    return b


def second(a):
    a.sort()
    return a[1:]


class Third:
    def fourth(self, n=1):
        return not n


def fifth(n):
    return n
'''
FILES = {path: MODULE.format(name=path) for path in ("a.py", "b/c.py", "d.py")}
FOUND = [mutation for path, text in FILES.items() for mutation in list_mutations(text, path=path)]
TESTS = st.lists(st.integers(0, 11), min_size=1).map(lambda numbers: fails(*numbers))
SINGLES = st.dictionaries(st.sampled_from(FOUND), TESTS, max_size=25)


def fails(*numbers: int) -> Symptoms:
    """Return what a mutation does that fails these tests, of which the first is shown."""
    tests = [("tests.py", f"test_{number}") for number in numbers]
    return Symptoms(tests[0], frozenset(tests))


def one(path: str, operator: str):
    return next(m for m in FOUND if (m.path, m.operator) == (path, operator))


def test_a_bug_applies_all_its_mutations_and_gives_the_changed_files_only():
    bug = Bug(
        (
            one("d.py", "return_none"),
            one("a.py", "drop_not"),
            one("a.py", "cmp_negate"),
            one("a.py", "stmt_delete_call"),
        )
    )
    expected = FILES["a.py"].replace("a < b", "a >= b").replace("    a.sort()\n", "")
    assert bug.apply(FILES) == {
        "a.py": expected.replace("not n", "n"),
        "d.py": FILES["d.py"].replace("return a  #", "return None  #"),
    }
    assert bug.paths == ("a.py", "d.py")
    assert bug.operators == ("cmp_negate", "stmt_delete_call", "drop_not", "return_none")


def test_equal_bugs_are_equal_whatever_the_order():
    pair = one("a.py", "drop_not"), one("a.py", "cmp_negate")
    assert Bug(pair) == Bug(pair[::-1])
    assert len({Bug(pair), Bug(pair[::-1])}) == 1


def test_mutations_that_meet_are_refused():
    mutation = one("a.py", "cmp_negate")
    with pytest.raises(ValueError, match=r"two mutations of a\.py meet in line 5"):
        Bug((mutation, replace(mutation, replacement="==")))
    with pytest.raises(ValueError, match="needs a mutation"):
        Bug(())


@given(SINGLES, st.booleans(), st.integers(0, 99), st.randoms(use_true_random=False))
def test_combinations_keep_what_they_promise(singles, across_files, seed, shuffler):
    bugs = combine(singles, rng=random.Random(seed), across_files=across_files)
    for bug in bugs:
        assert len(bug.mutations) in NUM_SITES
        assert len(bug.paths) == (2 if across_files else 1)
        places = {(mutation.path, mutation.function) for mutation in bug.mutations}
        assert len(places) == len(bug.mutations)
        failing = Counter(test for mutation in bug.mutations for test in singles[mutation].failing)
        assert all(failing[singles[mutation].shown] == 1 for mutation in bug.mutations)
        broken = FILES | bug.apply(FILES)
        assert {path for path in FILES if broken[path] != FILES[path]} == set(bug.paths)
        for path in bug.paths:
            parse_python(broken[path])
        assert apply_edits(broken, make_edits(broken, FILES)) == FILES
    assert len(set(bugs)) == len(bugs) <= len(singles)
    order = list(singles.items())
    shuffler.shuffle(order)
    again = combine(dict(order), rng=random.Random(seed), across_files=across_files)
    assert again == bugs


def test_combinations_differ_by_seed_come_in_all_sizes_and_use_what_is_there():
    singles = {m: fails(number) for number, m in enumerate(FOUND)}
    drawn = {}
    for seed in (0, 1):
        for across_files in (False, True):
            bugs = combine(singles, rng=random.Random(seed), across_files=across_files)
            assert len(bugs) > 0.9 * len(singles)
            assert {len(bug.mutations) for bug in bugs} == set(NUM_SITES)
            assert {m for bug in bugs for m in bug.mutations} == set(singles)
            drawn[seed, across_files] = bugs
    assert drawn[0, False] != drawn[1, False]
    assert drawn[0, True] != drawn[1, True]
    first = Counter(m for bug in drawn[0, False][: len(FOUND) // 4] for m in bug.mutations)
    assert max(first.values()) <= 2


def test_a_mutation_whose_shown_test_another_fails_too_is_not_combined_with_it():
    weak, strong = one("a.py", "cmp_negate"), one("a.py", "drop_not")
    singles = {weak: fails(1, 3), strong: fails(2, 1)}
    assert combine(singles, rng=random.Random(0), across_files=False) == []
    singles[weak] = fails(3, 1)
    assert combine(singles, rng=random.Random(0), across_files=False) == [Bug((weak, strong))]


@given(singles=SINGLES, num_files=st.sampled_from((2, 3)), seed=st.integers(0, 9))
def test_bugs_in_several_files_are_of_one_mutation_each_the_largest_first(singles, num_files, seed):
    rng = random.Random(seed)
    sizes = {mutation: rng.randint(1, 50) for mutation in singles}
    bugs = combine_files(singles, sizes=sizes, num_files=num_files)
    assert len(set(bugs)) == len(bugs) <= len(singles)
    for bug in bugs:
        assert len(bug.paths) == len(bug.mutations) == num_files
        shown = {one: singles[one].shown for one in bug.mutations}
        assert all(shown[a] not in singles[b].failing for a in shown for b in shown if a is not b)
    sums = [sum(sizes[one] for one in bug.mutations) for bug in bugs]
    assert sums == sorted(sums, reverse=True)
    again = combine_files(dict(reversed(singles.items())), sizes=sizes, num_files=num_files)
    assert again == bugs
