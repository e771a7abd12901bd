from concurrent.futures import ThreadPoolExecutor

import pytest

from envs.mutation.bug import Bug
from envs.mutation.operators import list_mutations
from envs.projects import verdict_cache as verdicts_module
from envs.projects.verdict_cache import Verdict, Verdicts
from tests.envs.projects.small_project import CALC

FILES = {"calc/core.py": CALC, "tests/test_core.py": ""}
STABLE = ("tests/test_core.py::test_one", "tests/test_core.py::test_two")


def bugs(count):
    return [Bug((mutation,)) for mutation in list_mutations(CALC, path="calc/core.py")[:count]]


def test_verdicts_outlive_a_build(tmp_path):
    useful, useless, new = bugs(3)
    path = tmp_path / "mutants" / "calc.jsonl"
    shown = ("tests/test_core.py", "test_one"), ("tests/test_more.py", "test_two")
    task = Verdict(frozenset(STABLE), None, shown, "it fails:\n1 != 2")
    found = [task, Verdict(frozenset(), "no test fails")]
    verdicts = Verdicts(path, files=FILES, stable_tests=STABLE)
    for bug, verdict in zip((useful, useless), found, strict=True):
        verdicts.add(bug, verdict)
    later = Verdicts(path, files=FILES, stable_tests=STABLE)
    for known in (verdicts, later):
        assert [known.get(one) for one in (useful, useless, new)] == [*found, None]


@pytest.mark.parametrize(
    "rest",
    [
        b'["0123", ["tests/te',
        b"\x00\x00\x00",
        b"\xff\xc3",
        b"12",
        b'["0123", 1, 2, 3, 4]',
        b'["0123", ["a"], null]',
    ],
    ids=["cut", "zeros", "no text", "no list", "other types", "older"],
)
def test_a_line_that_a_kill_cut_short_costs_that_line_only(tmp_path, rest):
    first, second, third = bugs(3)
    path = tmp_path / "calc.jsonl"
    for bug in (first, second):
        Verdicts(path, files=FILES, stable_tests=STABLE).add(
            bug, Verdict(frozenset(), "no test fails")
        )
        with path.open("ab") as file:
            file.write(rest)
    known = Verdicts(path, files=FILES, stable_tests=STABLE)
    assert [known.get(bug) is None for bug in (first, second, third)] == [False, False, True]


def test_two_builds_at_once_share_a_file(tmp_path):
    path = tmp_path / "calc.jsonl"
    both = [Verdicts(path, files=FILES, stable_tests=STABLE) for _ in range(2)]
    found = {bug: Verdict(frozenset({f"test_{n}" * 10_000}), None) for n, bug in enumerate(bugs(8))}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: both[n % 2].add(*list(found.items())[n]), range(8)))
    known = Verdicts(path, files=FILES, stable_tests=STABLE)
    assert {bug: known.get(bug) for bug in found} == found


@pytest.mark.parametrize(
    "other",
    [
        {"files": FILES | {"tests/test_core.py": "import calc\n"}, "stable_tests": STABLE},
        {"files": FILES, "stable_tests": STABLE[:1]},
    ],
    ids=["tree", "stable tests"],
)
def test_a_verdict_holds_for_one_tree_and_its_stable_tests(tmp_path, other):
    (bug,) = bugs(1)
    path = tmp_path / "calc.jsonl"
    Verdicts(path, files=FILES, stable_tests=STABLE).add(bug, Verdict(frozenset(), "no test fails"))
    assert Verdicts(path, **other).get(bug) is None


def test_a_verdict_of_other_code_is_not_believed(tmp_path, monkeypatch):
    (bug,) = bugs(1)
    path = tmp_path / "calc.jsonl"
    Verdicts(path, files=FILES, stable_tests=STABLE).add(bug, Verdict(frozenset(), "no test fails"))
    monkeypatch.setattr(verdicts_module, "code_key", lambda *_: "changed")
    assert Verdicts(path, files=FILES, stable_tests=STABLE).get(bug) is None


def test_bugs_that_change_several_files_are_told_apart(tmp_path):
    files = FILES | {"calc/more.py": CALC}
    first, second = (
        list_mutations(CALC, path=path)[0] for path in ("calc/core.py", "calc/more.py")
    )
    verdicts = Verdicts(tmp_path / "calc.jsonl", files=files, stable_tests=STABLE)
    verdicts.add(Bug((first, second)), Verdict(frozenset(), "no test fails"))
    assert verdicts.get(Bug((first,))) is None
    assert verdicts.get(Bug((second, first))) is not None
