"""One repository in three splits: no file in two, and the bugs of each in its own."""

import pytest

from envs.errors import UserError
from envs.projects.file_splits import share_out, split_files
from envs.projects.local_folder import open_local
from envs.projects.lock_file import Project
from envs.projects.repair_task import find_repeats, list_candidates
from envs.records import SPLITS
from envs.sources.build import build
from envs.tasks.store import TaskStore

SUM = "def {name}(left, right):\n    if left > right:\n        return left - right\n"
SUM += "    return {number} * left + right\n"
SHARED = "\n\ndef shared(values):\n    return [each + 1 for each in values if each > 1]\n"


def entry_of(mutated):
    named = dict.fromkeys(("sdist", "sha256", "licence", "licence_file", "licence_sha256"), "")
    return Project(name="mine", version="1", split="train", roots=(), mutated=mutated, **named)


def write_project(folder, num_files=4):
    tests = []
    for number in range(num_files):
        name = f"part_{number}"
        functions = [SUM.format(name=f"f{each}", number=number * 7 + each + 2) for each in range(4)]
        (folder / f"{name}.py").write_text("\n\n".join(functions) + SHARED, "utf-8")
        for each in range(4):
            value = (number * 7 + each + 2) * 1 + 2
            tests += [
                f"def test_{number}_{each}_small():\n    assert {name}.f{each}(1, 2) == {value}",
                f"def test_{number}_{each}_large():\n    assert {name}.f{each}(5, 2) == 3",
            ]
    imports = "".join(f"import part_{number}\n" for number in range(num_files))
    (folder / "test_all.py").write_text(f"{imports}\n\n" + "\n\n\n".join(tests) + "\n", "utf-8")
    return folder


def test_a_file_gives_bugs_to_one_split_and_each_split_has_files(tmp_path):
    write_project(tmp_path, num_files=9)
    files = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.py")}
    mutated = tuple(sorted(name for name in files if name.startswith("part")))
    project = split_files(entry_of(mutated), files)
    assert project.file_splits.keys() == set(mutated)
    parts = project.list_parts()
    assert [part.split for part in parts] == list(SPLITS)
    sizes = [len(part.own_files) for part in parts]
    assert sorted(path for part in parts for path in part.own_files) == list(mutated)
    assert sizes[0] >= sizes[2] >= sizes[1] >= 1
    assert sizes[0] in (6, 7)
    trees = [(part, files) for part in parts]
    repeats = find_repeats(trees)
    assert repeats
    assert not {each.path for each in repeats} & set(parts[0].own_files)
    for part in parts:
        bugs = list_candidates(part, files=files, seed=0)
        assert {path for bug in bugs for path in bug.paths} == set(part.own_files)
    with pytest.raises(UserError, match="too few"):
        split_files(entry_of(mutated[:2]), files)


@pytest.mark.parametrize("count", [3, 4, 10, 60])
def test_every_split_gets_a_task(count):
    shares = share_out(count)
    assert sum(shares.values()) == count
    assert min(shares.values()) >= 1


def test_tasks_of_a_split_have_bugs_in_its_files_only(tmp_path):
    folder, cache = tmp_path / "mine", tmp_path / "cache"
    folder.mkdir()
    project, files = open_local(write_project(folder), python=None, cache_dir=cache)
    project = split_files(project, files)
    counts = {"train": 2, "dev": 1, "test": 1}
    local = (project, files)
    build("path", out_dir=tmp_path / "set", counts=counts, seed=0, cache_dir=cache, local=local)
    store = TaskStore.open(tmp_path / "set")
    assert store.split("train")
    for task in store.public.values():
        changed = {edit.path for edit in store.hidden[task.id].gold_edits}
        assert {project.file_splits[path] for path in changed} == {task.split}
