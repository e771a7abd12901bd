import json
import os

import pytest

from envs.errors import UserError
from envs.files import hash_file, hash_text
from envs.tasks.store import Manifest, TaskStore, write_built
from tests.envs.small_tasks import pytest_task


@pytest.fixture
def folder(tmp_path):
    manifest = Manifest(source="path", seed=0, licence="MIT")
    write_built(tmp_path / "set", tasks=[pytest_task()], manifest=manifest)
    (tmp_path / "outside").write_text("secret", "utf-8")
    return tmp_path / "set"


def reseal(folder, **listed):
    """Make the manifest agree with the files, as whoever makes a set can."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    for name in manifest["files"]:
        if (folder / name).is_file() and (folder / name).stat().st_size < 2**20:
            manifest["files"][name] = hash_file(folder / name)
    manifest["files"] |= listed
    path.write_text(json.dumps(manifest), "utf-8")


def change(folder, name, **fields):
    path = folder / name
    rows = [json.loads(line) | fields for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    reseal(folder)


def refused(folder):
    with pytest.raises(UserError) as caught:
        TaskStore.open(folder).built()
    assert "secret" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_here_is_read(folder):
    assert TaskStore.open(folder).built() == [pytest_task()]


def test_a_tree_takes_no_text_from_outside(folder):
    tree = folder / "workspaces" / "workspace-pytest.json"
    for sha in ("../../outside", str(folder.parent / "outside"), hash_text("secret")):
        tree.write_text(json.dumps({"calc.py": sha}), "utf-8")
        reseal(folder)
        assert "not listed in the manifest" in refused(folder)
    reseal(folder, **{"files/../../outside": hash_text("secret")})
    assert "a name of no file inside the set" in refused(folder)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/./b", "a//b", "", "a\0b", "calc.py/x"])
def test_paths_of_a_tree_stay_inside(folder, path):
    tree = folder / "workspaces" / "workspace-pytest.json"
    named = json.loads(tree.read_text("utf-8"))
    tree.write_text(json.dumps(named | {path: named["calc.py"]}), "utf-8")
    reseal(folder)
    assert "a path " in refused(folder)


def test_files_are_regular_and_lie_inside(folder):
    hidden = folder / "private" / "hidden.jsonl"
    text = hidden.read_text("utf-8")
    hidden.unlink()
    (folder.parent / "hidden").write_text(text, "utf-8")
    hidden.symlink_to(folder.parent / "hidden")
    assert "not a regular file" in refused(folder)
    hidden.unlink()
    os.mkfifo(hidden)
    assert "not a regular file" in refused(folder)
    hidden.unlink()
    hidden.write_text(text, "utf-8")
    (folder / "workspaces").rename(folder.parent / "elsewhere")
    (folder / "workspaces").symlink_to(folder.parent / "elsewhere")
    assert "a link, which leads elsewhere" in refused(folder)


def test_a_manifest_that_is_a_fifo_is_not_waited_for(folder):
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    assert "not a regular file" in refused(folder)


def test_a_huge_file_is_not_read(folder):
    os.truncate(folder / "private" / "hidden.jsonl", 2**31)
    assert "more than" in refused(folder)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("train.jsonl", {"editable": ["../calc.py"]}, "what may be edited names no file"),
        ("train.jsonl", {"workspace_sha": "../../x"}, "not listed"),
        ("train.jsonl", {"visible_tests": ["-pevil::x"]}, "its tests names no file"),
        ("train.jsonl", {"id": "another"}, "it has no private half"),
        ("private/hidden.jsonl", {"tests_sha": "../x"}, "not listed"),
        ("private/hidden.jsonl", {"calls_sha": "../x"}, "not listed"),
        ("private/hidden.jsonl", {"fail_to_pass": ["/etc/x.py::t"]}, "its tests names no file"),
        ("private/hidden.jsonl", {"limit_s": 1e12}, "limit_s"),
        ("private/hidden.jsonl", {"limit_s": float("inf")}, "limit_s"),
        (
            "private/hidden.jsonl",
            {"gold_edits": [{"path": "/etc/x", "start": 1, "end": 1, "text": ""}]},
            "its repair names no file",
        ),
        (
            "private/hidden.jsonl",
            {"gold_edits": [{"path": "calc.py", "start": 1, "end": 99, "text": ""}]},
            "its repair is of lines 1 to 99",
        ),
    ],
)
def test_halves_of_a_task_belong_to_its_trees(folder, name, fields, said):
    change(folder, name, **fields)
    assert said in refused(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"id": ' + "9" * 5000, "\xff", "null", "{}"])
def test_records_of_any_text_are_refused(folder, text):
    (folder / "train.jsonl").write_bytes(text.encode("latin-1"))
    reseal(folder)
    assert "line 1" in refused(folder)
