import ast
import subprocess
import sys

import pytest

from envs.grading.graders import make_grader
from envs.mutation.patches import apply_edits
from envs.projects.lock_file import fetch, load_lock, read_sdist
from envs.projects.repair_task import (
    NOTHING_SHOWN,
    Description,
    ShownBug,
    choose_limit_s,
    find_repeats,
    list_candidates,
)
from envs.sandbox.fork_server import ForkServer
from envs.sources.build import build
from envs.tasks.build_report import UNSTEADY
from envs.tasks.leaks import find_leak
from envs.tasks.store import TaskStore
from envs.tasks.validate import score
from tests.envs.projects.small_project import pack_three

COUNTS = {"train": 6, "dev": 2, "test": 2}


def hash_with_seed_0(text):
    line = [sys.executable, "-c", f"print(hash({text!r}))"]
    return int(subprocess.check_output(line, env={"PYTHONHASHSEED": "0"}))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("projects")
    lock, cache = pack_three(folder)
    build("projects", out_dir=folder / "set", counts=COUNTS, seed=0, lock=lock, cache_dir=cache)
    return folder


@pytest.fixture(scope="module")
def store(built):
    return TaskStore.open(built / "set")


def test_every_split_has_tasks_and_no_more_than_asked(store):
    for split, count in COUNTS.items():
        assert 1 <= len(store.split(split)) <= count
    assert store.manifest.licence == "MIT-0"
    yields = store.manifest.yields.values()
    assert sum(each["tried"] for each in yields) >= sum(each["useful"] for each in yields)
    assert sum(each["useful"] for each in yields) == len(store.public)


def test_no_two_splits_share_a_project(store):
    found = {split: {task.project for task in store.split(split)} for split in COUNTS}
    assert found == {"train": {"calc"}, "dev": {"words"}, "test": {"points"}}


def test_a_task_is_described_only_by_a_visible_test_that_the_repair_mends(store):
    task = store.split("train")[0]
    hidden, workspace = store.hidden[task.id], store.workspace(task)
    repaired = apply_edits(workspace, hidden.gold_edits)
    helpless = {task.visible_tests[0].partition("::")[0]: "raise OSError\n"}
    with ForkServer(preload="pytest") as server:
        for broken, mended, statement in (
            (workspace, repaired, Description(task.statement)),
            (workspace | helpless, repaired | helpless, Description("", NOTHING_SHOWN)),
        ):
            bug = ShownBug(broken, mended, task.visible_tests)
            assert bug.describe(hidden.fail_to_pass, server=server) == statement


@pytest.fixture(scope="module")
def server():
    with ForkServer(preload="pytest") as started:
        yield started


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("id(object())", None),
        ("hash(object())", None),
        ("hex(id([]))", None),
        ("time.time()", None),
        ("datetime.datetime.now()", None),
        ("datetime.date.today()", None),
        ("os.getpid()", None),
        ("random.random()", None),
        ("socket.socketpair", "<function socketpair at 0x0>"),
        ("object()", "<object object at 0x0>"),
        ("tmp_path", "/tmp/pytest-of-user/pytest-0/test_it0"),
        ("tempfile.gettempdir()", "/tmp"),
        ("pathlib.Path.home()", "/tmp"),
        ("getpass.getuser()", "user"),
        ("os.getcwd()", "."),
        ("__file__", "test_m.py"),
        ("json.__file__", "PYTHON/json/__init__.py"),
        ("pytest.__file__", "PYTHON/pytest/__init__.py"),
        ("sys.executable", "python"),
        ("hash(m.__name__)", str(hash_with_seed_0("m"))),
        ("0x1f2e3d4c5b6a", str(0x1F2E3D4C5B6A)),
        ("datetime.date(2026, 11, 30)", "2026-11-30"),
    ],
)
def test_what_a_statement_says_is_the_same_on_every_machine(server, said, word):
    modules = "datetime, getpass, json, m, os, pathlib, pytest, random, socket, sys, tempfile, time"
    test = f"import {modules}\ndef test_it(tmp_path):\n    assert m.right, f'says {{{said}}}.'\n"
    workspace = {"m.py": "right = False\n", "test_m.py": test}
    bug = ShownBug(workspace, workspace | {"m.py": "right = True\n"}, ("test_m.py::test_it",))
    statement, reject = bug.describe(bug.visible_tests, server=server)
    if word is None:
        assert (statement, reject) == ("", UNSTEADY)
    else:
        assert (f"says {word}." in statement, reject) == (True, None)


def test_of_a_visible_function_the_case_is_told_that_says_the_same_each_time(server):
    test = "import m, pytest, time\n@pytest.mark.parametrize('n', [1, 2])\ndef test_it(n):\n"
    test += "    assert m.right, n if n == 2 else time.time()\n"
    workspace = {"m.py": "right = False\n", "test_m.py": test}
    ids = ("test_m.py::test_it[1]", "test_m.py::test_it[2]")
    bug = ShownBug(workspace, workspace | {"m.py": "right = True\n"}, ids)
    statement, _ = bug.describe(ids, server=server)
    assert statement.startswith("test_m.py::test_it[2] fails:")


@pytest.mark.parametrize(
    ("suite_s", "limit_s"), [(0, 10), (0.3, 10), (2, 10), (2.1, 20), (4, 20), (5, 40), (30, 160)]
)
def test_a_suite_that_takes_a_little_longer_another_time_has_the_same_limit(suite_s, limit_s):
    assert choose_limit_s(suite_s) == limit_s


def test_a_mixin_keeps_its_helpers_and_the_visible_test_only(store):
    tasks = store.split("test")
    assert tasks
    for task in tasks:
        files = store.workspace(task)
        shared = files.get("tests/__init__.py", "")
        for name in ("test_area", "test_area_of_reversed"):
            shown = any(test.endswith(f"::{name}") for test in task.visible_tests)
            assert (f"def {name}(" in shared) == shown
        assert "def reversed_corners" in shared


def test_the_workspace_holds_the_visible_test_only(store):
    for task in store.split("train"):
        files, hidden = store.workspace(task), store.hidden[task.id]
        text = files["tests/test_core.py"]
        tests = {
            n.name for n in ast.walk(ast.parse(text)) if getattr(n, "name", "").startswith("test_")
        }
        assert tests == {name.rpartition("::")[2].partition("[")[0] for name in task.visible_tests}
        assert ("HIDDEN_DATA" in text) == ("test_spread" in tests)
        assert task.editable == ("calc/core.py",)
        assert set(hidden.unseen_tests) & set(hidden.fail_to_pass)
        assert not set(hidden.unseen_tests) & set(task.visible_tests)
        assert len(hidden.fail_to_pass) + len(hidden.pass_to_pass) == 13


def test_gold_edits_restore_the_pristine_file(store):
    for task in store.public.values():
        hidden = store.hidden[task.id]
        mended = apply_edits(store.workspace(task), hidden.gold_edits)
        for path in task.editable:
            assert mended[path] == store.tests(hidden)[path] != store.workspace(task)[path]
        for span, edit in zip(hidden.gold_spans, hidden.gold_edits, strict=True):
            assert span.start <= edit.start <= span.end


def test_statements_say_what_fails_and_nothing_else(store):
    for task in store.built():
        assert find_leak(task) is None
        count = task.public.difficulty.sites
        head = f"{count} separate bugs, of which each fails a test:\n\n1. " if count > 1 else ""
        assert task.public.statement.startswith(f"{head}tests/test_")
        assert task.public.statement.count(" fails:\n") == count
        assert len(task.public.statement) <= 410 * count + len(head)


def test_gold_scores_one_and_noop_zero(store):
    with make_grader(store) as grader:
        for task in store.built():
            gold = apply_edits(task.workspace, task.hidden.gold_edits)
            assert score(grader.grade(task.hidden, gold)) == 1.0
            assert score(grader.grade(task.hidden, task.workspace)) == 0.0
            assert grader.run_visible(task.public, gold, "").failures == ()


def test_bugs_take_turns_between_functions_and_methods(tmp_path):
    lock, cache = pack_three(tmp_path)
    found = {}
    for entry in load_lock(lock):
        files = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
        found[entry.name] = [
            bug.mutations[0] for bug in list_candidates(entry, files=files, seed=0)
        ]
    assert len({mutation.function for mutation in found["calc"][:6]}) == 6
    assert "Box.area" in {mutation.function for mutation in found["points"]}


def test_a_function_that_nearly_repeats_one_of_an_earlier_split_is_left_alone(tmp_path):
    lock, cache = pack_three(tmp_path)
    trees = [
        (entry, read_sdist(entry, sdist=fetch(entry, cache_dir=cache))) for entry in load_lock(lock)
    ]
    assert find_repeats(trees) == set()
    (_, train), (dev, files), _ = trees
    copied = train["calc/core.py"].partition("\n\n\n")[2].replace("def total", "def summed")
    files["words/core.py"] += f"\n\n{copied}"
    repeats = find_repeats(trees)
    assert {(one.project, one.path) for one in repeats} == {("words", "words/core.py")}
    assert {one.name for one in repeats} == {
        "summed",
        "largest",
        "spread",
        "chunks",
        "clamp",
        "evens",
    }
    left = {
        bug.mutations[0].function
        for bug in list_candidates(dev, files=files, seed=0, repeats=repeats)
    }
    assert left == {"initials", "longest"}
