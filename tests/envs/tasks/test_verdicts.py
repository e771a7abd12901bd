from concurrent.futures import ThreadPoolExecutor

import pytest

from envs.tasks.mutants import Candidate, Probed
from envs.tasks.mutate import apply, sites
from envs.tasks.verdicts import Verdicts
from tests.envs.tasks.small_project import CALC

FILES = {"calc/core.py": CALC, "tests/test_core.py": ""}
GREEN = ("tests/test_core.py::test_one", "tests/test_core.py::test_two")


def bugs(count):
    found = sites(CALC, path="calc/core.py")[:count]
    return [Candidate(mutation, apply(CALC, mutation)) for mutation in found]


def test_verdicts_outlive_a_build(tmp_path):
    useful, useless, new = bugs(3)
    path = tmp_path / "mutants" / "calc.jsonl"
    found = [Probed(useful, frozenset(GREEN), None), Probed(useless, frozenset(), "no test fails")]
    verdicts = Verdicts(path, files=FILES, green=GREEN)
    for one in found:
        verdicts.add(one)
    later = Verdicts(path, files=FILES, green=GREEN)
    for known in (verdicts, later):
        assert [known.of(one) for one in (useful, useless, new)] == [*found, None]


@pytest.mark.parametrize(
    "rest",
    [b'["0123", ["tests/te', b"\x00\x00\x00", b"\xff\xc3", b"12", b'["0123", 1, 2]'],
    ids=["cut", "zeros", "no text", "no list", "other types"],
)
def test_a_line_that_a_kill_cut_short_costs_that_line_only(tmp_path, rest):
    first, second, third = bugs(3)
    path = tmp_path / "calc.jsonl"
    for bug in (first, second):
        Verdicts(path, files=FILES, green=GREEN).add(Probed(bug, frozenset(), "no test fails"))
        with path.open("ab") as file:
            file.write(rest)
    known = Verdicts(path, files=FILES, green=GREEN)
    assert [known.of(bug) is None for bug in (first, second, third)] == [False, False, True]


def test_two_builds_at_once_share_a_file(tmp_path):
    path = tmp_path / "calc.jsonl"
    both = [Verdicts(path, files=FILES, green=GREEN) for _ in range(2)]
    found = [Probed(bug, frozenset({f"test_{n}" * 10_000}), None) for n, bug in enumerate(bugs(8))]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: both[n % 2].add(found[n]), range(8)))
    known = Verdicts(path, files=FILES, green=GREEN)
    assert [known.of(one.candidate) for one in found] == found


@pytest.mark.parametrize(
    "other",
    [
        {"files": FILES | {"tests/test_core.py": "import calc\n"}, "green": GREEN},
        {"files": FILES, "green": GREEN[:1]},
    ],
    ids=["tree", "green tests"],
)
def test_a_verdict_holds_for_one_tree_and_its_green_tests(tmp_path, other):
    (bug,) = bugs(1)
    path = tmp_path / "calc.jsonl"
    Verdicts(path, files=FILES, green=GREEN).add(Probed(bug, frozenset(), "no test fails"))
    assert Verdicts(path, **other).of(bug) is None
