import ast

import pytest

from envs.grading import make_grader
from envs.tasks.build import build
from envs.tasks.mutants import candidates
from envs.tasks.patches import apply_edits
from envs.tasks.projects import fetch, read_sdist
from envs.tasks.store import TaskStore
from envs.tasks.validate import leak, score
from tests.envs.tasks.small_project import pack, project

COUNTS = {"train": 6, "dev": 2, "test": 3}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("projects")
    lock, cache = pack(folder)
    for name in ("set", "again"):
        build("projects", out_dir=folder / name, counts=COUNTS, seed=0, lock=lock, cache_dir=cache)
    return folder


@pytest.fixture(scope="module")
def store(built):
    return TaskStore.open(built / "set")


def test_the_same_seed_gives_the_same_bytes(built):
    one, two = (
        {
            p.relative_to(built / name): p.read_bytes()
            for p in (built / name).rglob("*")
            if p.is_file()
        }
        for name in ("set", "again")
    )
    assert one == two


def test_every_split_has_tasks_and_no_more_than_asked(store):
    for split, count in COUNTS.items():
        assert 1 <= len(store.split(split)) <= count
    assert store.manifest.licence == "MIT-0"
    assert sum(store.manifest.rejects.values()) > 0


def test_no_function_is_broken_in_two_splits(store):
    where = {}
    for task in store.public.values():
        edit = store.hidden[task.id].gold_edits[0]
        tree = ast.parse(store.workspace(task)[edit.path])
        (name,) = [
            f.name
            for f in tree.body
            if hasattr(f, "name") and f.lineno <= edit.start <= f.end_lineno
        ]
        where.setdefault(name, set()).add(task.split)
    assert all(len(splits) == 1 for splits in where.values())


def test_the_workspace_holds_the_visible_test_only(store):
    for task in store.public.values():
        files, hidden = store.workspace(task), store.hidden[task.id]
        text = files["tests/test_core.py"]
        tests = {
            n.name for n in ast.walk(ast.parse(text)) if getattr(n, "name", "").startswith("test_")
        }
        assert tests == {name.rpartition("::")[2].partition("[")[0] for name in task.visible_tests}
        assert ("HIDDEN_DATA" in text) == (tests == {"test_spread"})
        assert task.editable == ("calc/core.py",)
        assert set(hidden.unseen_tests) & set(hidden.fail_to_pass)
        assert not set(hidden.unseen_tests) & set(task.visible_tests)
        assert len(hidden.fail_to_pass) + len(hidden.pass_to_pass) == 13


def test_gold_edits_restore_the_pristine_file(store):
    for task in store.public.values():
        hidden = store.hidden[task.id]
        mended = apply_edits(store.workspace(task), hidden.gold_edits)
        assert mended["calc/core.py"] == store.tests(hidden)["calc/core.py"]
        (span,) = hidden.gold_spans
        assert span.start <= hidden.gold_edits[0].start <= span.end


def test_statements_say_what_fails_and_nothing_else(store):
    for task in store.built():
        assert leak(task) is None
        assert task.public.statement.startswith("tests/test_core.py::")
        assert len(task.public.statement) <= 400


def test_gold_scores_one_and_noop_zero(store):
    with make_grader(store) as grader:
        for task in store.built():
            gold = apply_edits(task.workspace, task.hidden.gold_edits)
            assert score(grader.grade(task.hidden, gold)) == 1.0
            assert score(grader.grade(task.hidden, task.workspace)) == 0.0
            assert grader.run_visible(task.public, gold, "").failures == ()


def test_splits_do_not_depend_on_the_seed(tmp_path):
    entry, cache = project(tmp_path)
    files = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
    splits = [
        {(one.mutation.function, one.split) for one in candidates(entry, files=files, seed=seed)}
        for seed in (0, 1)
    ]
    assert splits[0] == splits[1]
    assert {split for _, split in splits[0]} == {"train", "dev", "test"}


def test_near_duplicate_functions_go_together(tmp_path):
    entry, cache = project(tmp_path)
    files = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
    files["calc/core.py"] += (
        files["calc/core.py"].partition("\n\n\n")[2].replace("def ", "def other_")
    )
    found = {c.mutation.function: c.split for c in candidates(entry, files=files, seed=0)}
    assert len(found) == 12
    for name, split in found.items():
        assert split == found[name.removeprefix("other_")]
