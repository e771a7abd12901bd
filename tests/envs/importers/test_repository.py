"""The folder of a benchmark's repository is read as any project is."""

import pytest

from envs.errors import UserError
from envs.importers.repository import open_repository, without_repository


def test_all_files_are_read_but_what_a_build_leaves_behind(tmp_path):
    repo = tmp_path / "repo"
    kept = {
        "calc/core.py": b"x = 1\n",
        "data/odd.bin": b"\0\xff",
        "tests/test_x.py": b"def test_x(): pass\n",
    }
    left = {".git/hooks.py": b"", "calc/__pycache__/y.py": b"", "calc.egg-info/z.py": b""}
    for path, data in (kept | left).items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(data)
    (repo / "calc" / "passwd.py").symlink_to("/etc/passwd")
    variables = {"MODE": "fast"}
    found = open_repository(repo, python=None, environment=variables, cache_dir=tmp_path / "c")
    assert set(found.files) == set(kept)
    assert found.project.runtime.environment == (("MODE", "fast"),)
    less = open_repository(repo, python=None, exclude=["tests/test_x.py"], cache_dir=tmp_path / "c")
    assert set(less.files) == set(kept) - {"tests/test_x.py"}
    with pytest.raises(UserError, match="no such file to exclude") as caught:
        open_repository(repo, python=None, exclude=["tests/test_y.py::z"], cache_dir=tmp_path / "c")
    assert caught.value.remedy == "did you mean tests/test_x.py?"
    (tmp_path / "empty").mkdir()
    for name, what in (("none", "no such folder"), ("empty", "no project")):
        with pytest.raises(UserError, match=what):
            open_repository(tmp_path / name, python=None, cache_dir=tmp_path / "c")


def test_programs_have_an_empty_tree(tmp_path):
    found = without_repository(python=None, split="test", cache_dir=tmp_path)
    assert (found.files, found.project.split) == ({}, "test")
