import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import UserError
from envs.projects import build_projects, suites
from envs.projects.build_projects import ACROSS, IN_FILE, SINGLE
from envs.sources.build import build
from envs.sources.synthetic import SyntheticSettings
from envs.tasks.build_report import RED, BuildReport
from envs.tasks.store import TaskStore
from tests.envs.projects.small_project import (
    FILES,
    TESTS_OF_WORDS,
    WORDS,
    pack,
    pack_three,
    project,
)

TWO_FILES = FILES | {
    "calc/words.py": WORDS,
    "tests/test_words.py": TESTS_OF_WORDS.replace("words.core", "calc.words"),
}
MUTATED = ["calc/core.py", "calc/words.py"]
RED_TEST = "\n\ndef test_red():\n    assert total([1]) == 2\n"


def built(folder, lock, cache, **counts):
    asked = {"train": 0, "dev": 0, "test": 0} | counts
    manifest = build(
        "projects", out_dir=folder / "set", counts=asked, seed=0, lock=lock, cache_dir=cache
    )
    return manifest, TaskStore.open(folder / "set")


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    lock, cache = pack(folder, TWO_FILES, mutated=MUTATED)
    return built(folder, lock, cache, train=10)


def test_bugs_are_single_combined_in_a_file_and_across_files(two_files):
    manifest, store = two_files
    difficulties = [task.difficulty for task in store.public.values()]
    kinds = Counter((task.sites > 1) + (task.files > 1) for task in difficulties)
    assert kinds == {0: 7, 1: 2, 2: 1}
    assert manifest.settings["shares"] == {SINGLE: 0.7, IN_FILE: 0.2, ACROSS: 0.1}
    for task in store.public.values():
        assert len(task.editable) == task.difficulty.files
        assert len(store.hidden[task.id].operators) == task.difficulty.sites


def test_long_tasks_have_a_bug_in_each_of_several_files_and_no_others_are_kept(tmp_path):
    lock, cache = pack(tmp_path, TWO_FILES, mutated=MUTATED)
    manifest = build(
        "projects",
        out_dir=tmp_path / "set",
        counts={"train": 2, "dev": 0, "test": 0},
        seed=0,
        lock=lock,
        cache_dir=cache,
        settings=SyntheticSettings(length=(2,)),
    )
    store = TaskStore.open(tmp_path / "set")
    difficulties = [task.difficulty for task in store.public.values()]
    assert [(task.sites, task.files) for task in difficulties] == [(2, 2)] * 2
    assert manifest.settings["length"] == (2,)
    singles = [found for kind, found in manifest.yields.items() if kind != ACROSS]
    assert manifest.yields[ACROSS]["useful"] == 2 <= sum(each["useful"] for each in singles)
    good = sum(found["useful"] for found in manifest.yields.values())
    tried = sum(found["tried"] for found in manifest.yields.values())
    assert tried == good + sum(manifest.rejects.values()), "what is not good has a reason"
    for task in store.public.values():
        assert task.statement.startswith("2 separate bugs")


def test_yields_are_counted_by_operator_and_kind(two_files):
    manifest, store = two_files
    useful = {kind: found["useful"] for kind, found in manifest.yields.items()}
    operators = Counter(
        half.operators[0] for half in store.hidden.values() if len(half.operators) == 1
    )
    assert {kind: count for kind, count in useful.items() if count} == {
        **operators,
        IN_FILE: 2,
        ACROSS: 1,
    }
    assert "function like one of an earlier split" not in manifest.rejects
    dropped = sum(manifest.rejects.values())
    tried = sum(found["tried"] for found in manifest.yields.values())
    assert tried == dropped + len(store.public)
    assert all(n["useful"] <= n["noticed"] <= n["tried"] for n in manifest.yields.values())


def test_projects_of_a_split_share_its_count_and_fill_in_for_small_ones(tmp_path):
    lock, cache = pack_three(tmp_path)
    entries = json.loads(lock.read_text("utf-8"))
    lock.write_text(json.dumps({n: e | {"split": "train"} for n, e in entries.items()}), "utf-8")
    found = Counter(
        task.project for task in built(tmp_path, lock, cache, train=30)[1].split("train")
    )
    assert found["words"] < 10 <= found["points"]
    assert found["calc"] > 10
    assert found.total() == 30  # though nothing is combined across files: there is one only


def test_a_red_suite_is_left_out_and_named(tmp_path):
    red = FILES | {"tests/test_core.py": FILES["tests/test_core.py"] + RED_TEST}
    pack(tmp_path, red)
    words = {"words/__init__.py": "", "words/core.py": WORDS, "tests/test_words.py": TESTS_OF_WORDS}
    lock, cache = pack(tmp_path, {"LICENSE": FILES["LICENSE"]} | words, name="words")
    manifest, store = built(tmp_path, lock, cache, train=4)
    assert {task.project for task in store.public.values()} == {"words"}
    assert manifest.rejects[RED] == 1
    assert manifest.journal == (f"calc: {RED}",)


def test_a_build_without_a_green_suite_says_what_is_red(tmp_path):
    red = FILES | {"tests/test_core.py": FILES["tests/test_core.py"] + RED_TEST}
    with pytest.raises(UserError, match="test_red"):
        built(tmp_path, *pack(tmp_path, red), train=4)


def test_a_suite_that_is_too_slow_for_a_grading_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "MAX_SUITE_CPU_S", 0.0)
    with pytest.raises(UserError, match=r"too slow.*calc: .* s of CPU time"):
        built(tmp_path, *pack(tmp_path), train=4)


def test_a_task_that_time_spoilt_is_listed():
    report = BuildReport()
    report.drop("calc a.py:3 drop_not", "ran too long")
    report.drop("calc a.py:9 drop_not", "no test fails")
    assert report.journal == ["calc a.py:3 drop_not: ran too long"]
    assert report.rejects.total() == 2


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    return project(tmp_path_factory.mktemp("entry"))[0]


def test_a_share_falls_with_the_time_of_the_suite(entry):
    sharing = [
        suites.Source(entry.model_copy(update={"name": name, "suite_s": suite_s}), {}, bugs=[])
        for name, suite_s in (("fast", 0.3), ("slow", 1.3))
    ]
    assert build_projects._shares(sharing, 40) == [
        30,
        10,
    ]  # 1 / (0.2 + 0.3) against 1 / (0.2 + 1.3)
    assert build_projects._shares(sharing[1:], 40) == [40]  # none was made yet


@given(st.lists(st.floats(0, 30), min_size=1, max_size=40), st.integers(0, 300))
def test_shares_are_whole_and_add_up(entry, times, wanted):
    sharing = [
        suites.Source(entry.model_copy(update={"suite_s": suite_s}), {}, bugs=[])
        for suite_s in times
    ]
    shares = build_projects._shares(sharing, wanted)
    assert sum(shares) == wanted
    assert min(shares) >= 0


def one_split(lock):
    """Put the three projects of a lock file in the train split; return how many there are."""
    entries = json.loads(lock.read_text("utf-8"))
    lock.write_text(json.dumps({n: e | {"split": "train"} for n, e in entries.items()}), "utf-8")
    return len(entries)


def measured(cache):
    return {path.name.partition("-")[0] for path in (cache / "mutants").glob("*.suite.json")}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_only_suites_that_tasks_come_from_are_measured(tmp_path, count):
    lock, cache = pack_three(tmp_path)
    num_projects = one_split(lock)
    _, store = built(tmp_path, lock, cache, train=count)
    assert len(store.public) == count
    drawn = {task.project for task in store.public.values()}
    assert measured(cache) == drawn
    assert len(drawn) == min(count, num_projects)


def test_a_set_does_not_depend_on_what_was_measured_before(tmp_path):
    lock, cache = pack_three(tmp_path)
    num_projects = one_split(lock)
    built(tmp_path, lock, cache, train=2)
    small = files_below(tmp_path / "set")
    assert len(measured(cache)) < num_projects
    built(tmp_path, lock, cache, train=12)  # measures and tries more
    assert len(measured(cache)) == num_projects
    built(tmp_path, lock, cache, train=2)
    assert files_below(tmp_path / "set") == small


def test_the_share_of_a_red_suite_goes_to_others(tmp_path):
    """The project with most bugs, which would get the only task, is red."""
    pack_three(tmp_path)
    red = FILES | {"tests/test_core.py": FILES["tests/test_core.py"] + RED_TEST}
    lock, cache = pack(tmp_path, red)
    one_split(lock)
    manifest, store = built(tmp_path, lock, cache, train=1)
    assert {task.project for task in store.public.values()} < {"words", "points"}
    assert manifest.journal == (f"calc: {RED}",)


def files_below(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
