import json
from dataclasses import replace

import pytest

from envs.errors import UserError
from envs.records import RepairTask
from envs.sources.synthetic import generate
from envs.tasks.store import BuiltTask, Manifest, TaskStore, hash_tree, write_built

MANIFEST = Manifest(source="synthetic", seed=7, licence="Apache-2.0", rejects={"no test fails": 2})


@pytest.fixture(scope="module")
def tasks():
    some = [*generate(3, split="train", seed=7), *generate(2, split="test", seed=7)]
    tree = {"pkg/core.py": "X = 'caf\u00e9'\n", "tests/test_core.py": "def test_x():\n    pass\n"}
    last = some[-1]
    ids = {"fail_to_pass": ("tests/test_core.py::test_x",), "pass_to_pass": ()}
    of_suite = {"grader": "pytest", "tests_sha": hash_tree(tree), **ids}
    hidden = last.hidden.model_copy(update=of_suite)
    public = last.public.model_copy(update={"visible_tests": ()})
    return [*some[:-1], BuiltTask(public, hidden, last.workspace, tree)]


def test_round_trip_keeps_both_halves_and_all_trees(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    store = TaskStore.open(tmp_path / "set")
    assert store.built() == tasks
    assert [task.id for task in store.split("train")] == [task.public.id for task in tasks[:3]]
    assert store.split("dev") == []
    assert store.manifest.counts == {"train": 3, "dev": 0, "test": 2}
    assert store.manifest.rejects == {"no test fails": 2}


def test_a_set_in_memory_reads_like_one_on_disk(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    assert TaskStore.of(tasks).built() == TaskStore.open(tmp_path / "set").built()


def test_same_tasks_give_the_same_bytes(tmp_path, tasks):
    for name in ("one", "two"):
        write_built(tmp_path / name, tasks=tasks, manifest=MANIFEST)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 12
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def _named(task):
    workspace = {"workspace_sha": hash_tree(task.workspace)}
    tests = {"tests_sha": hash_tree(task.tests) if task.tests else ""}
    return replace(
        task,
        public=task.public.model_copy(update=workspace),
        hidden=task.hidden.model_copy(update=tests),
    )


def test_each_text_is_kept_once_and_a_hidden_one_in_private(tmp_path, tasks):
    shared = {"m9.py": "SHARED = 1\n"}
    made = [replace(task, workspace=task.workspace | shared) for task in tasks]
    made[-1] = replace(made[-1], tests=made[-1].tests | shared)
    made = [_named(task) for task in made]
    write_built(tmp_path / "set", tasks=made, manifest=MANIFEST)
    assert TaskStore.open(tmp_path / "set").built() == made
    texts = [path.read_text("utf-8") for path in (tmp_path / "set").rglob("files/*")]
    assert len(texts) == len(set(texts))
    public = [path.read_text("utf-8") for path in (tmp_path / "set" / "files").iterdir()]
    assert shared["m9.py"] in public
    assert not set(public) & {text for path, text in made[-1].tests.items() if path != "m9.py"}


def test_the_public_file_holds_nothing_private(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    paths = [*(tmp_path / "set").glob("*.jsonl"), tmp_path / "set" / "README.md"]
    public = "".join(path.read_text("utf-8") for path in paths)
    assert tasks[0].public.id in public
    for word in ("gold", "fail_to_pass", "operators", "unseen"):
        assert word not in public
    assert (tmp_path / "set" / "private").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "name",
    ["train.jsonl", "README.md", "private/hidden.jsonl", "workspaces", "files", "private/files"],
)
def test_a_damaged_file_is_named(tmp_path, tasks, name):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    path = tmp_path / "set" / name
    path = next(path.iterdir()) if path.is_dir() else path
    path.write_bytes(path.read_bytes()[:-3] + b"???")
    with pytest.raises(UserError, match=path.name) as caught:
        TaskStore.open(tmp_path / "set")
    assert "tightrope tasks build" in caught.value.remedy


def test_a_damaged_manifest_is_named(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    (tmp_path / "set" / "manifest.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match=r"manifest\.json"):
        TaskStore.open(tmp_path / "set")


def test_a_missing_file_is_named(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    (tmp_path / "set" / "private" / "hidden.jsonl").unlink()
    with pytest.raises(UserError, match="hidden"):
        TaskStore.open(tmp_path / "set")


def test_no_set_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(UserError, match="no task set") as caught:
        TaskStore.open(tmp_path / "nothing")
    assert "tightrope tasks build" in caught.value.remedy


def test_another_format_is_refused(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    path = tmp_path / "set" / "manifest.json"
    path.write_text(
        json.dumps(json.loads(path.read_text("utf-8")) | {"format_version": 99}), "utf-8"
    )
    with pytest.raises(UserError, match="format 99"):
        TaskStore.open(tmp_path / "set")


def test_writing_replaces_a_set_whole(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    write_built(tmp_path / "set", tasks=tasks[:1], manifest=MANIFEST)
    assert TaskStore.open(tmp_path / "set").built() == tasks[:1]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_tasks_are_selected_by_difficulty(tmp_path, tasks):
    known = {"call_distance": 3, "sites": 2}
    first, *others = tasks
    difficulty = first.public.difficulty.model_copy(update=known)
    first = replace(first, public=first.public.model_copy(update={"difficulty": difficulty}))
    write_built(tmp_path / "set", tasks=[first, *others[:2]], manifest=MANIFEST)
    store = TaskStore.open(tmp_path / "set")
    assert store.narrow({}).built() == store.built()
    assert store.narrow({"call_distance": (3, 3), "sites": (1, 2)}).built() == [first]
    assert set(store.narrow({"call_distance": (3, 3)}).hidden) == {first.public.id}
    with pytest.raises(UserError, match="no train task") as caught:
        store.narrow({"call_distance": (0, 2)})
    assert "call_distance 0 to 2" in str(caught.value)


def test_datasets_reads_the_public_part_and_nothing_else(tmp_path, tasks, monkeypatch):
    import datasets  # a second, which only this test needs

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    case = tasks[0].public.visible_cases[0].model_copy(update={"args": (1, "a", {"k": [1.5]})})
    odd = tasks[0].public.model_copy(update={"visible_cases": (case,)})
    bare = tasks[1].public.model_copy(update={"visible_cases": ()})
    made = [replace(tasks[0], public=odd), replace(tasks[1], public=bare), *tasks[2:]]
    write_built(tmp_path / "set", tasks=made, manifest=MANIFEST)
    found = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 3, "test": 2}
    assert set(found.column_names["train"]) == set(RepairTask.model_fields)
    assert found["train"].features == found["test"].features
    for split in found:
        rows = [RepairTask.model_validate(row) for row in found[split]]
        assert rows == TaskStore.open(tmp_path / "set").split(split)


def test_a_failed_write_leaves_the_old_set(tmp_path, tasks):
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)

    def breaks_down():
        yield tasks[0]
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        write_built(tmp_path / "set", tasks=breaks_down(), manifest=MANIFEST)
    assert TaskStore.open(tmp_path / "set").built() == tasks
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_folder_of_something_else_is_left_alone(tmp_path, tasks):
    (tmp_path / "thesis.txt").write_text("all of it", "utf-8")
    with pytest.raises(UserError, match="not a task set"):
        write_built(tmp_path, tasks=tasks, manifest=MANIFEST)
    assert (tmp_path / "thesis.txt").read_text("utf-8") == "all of it"
