import re
from collections import Counter
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.grading.test_suite import is_test_file
from envs.projects.baseline import find_stable_tests
from envs.projects.lock_file import fetch, load_lock, read_sdist
from tests.envs.projects.small_project import CALC, FILES, LICENCE, TESTS, pack, project

LOCK = Path(__file__).resolve().parents[3] / "configs" / "projects.lock.json"
ALLOWED = {"MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "PSF-2.0", "ISC"}


def read(folder, **changes):
    entry, cache = project(folder, **changes)
    return read_sdist(entry, sdist=fetch(entry, cache_dir=cache))


def test_an_sdist_in_the_cache_is_read_without_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    files = read(tmp_path)
    assert files == {
        "calc/__init__.py": "",
        "calc/core.py": CALC,
        "tests/test_core.py": TESTS,
    }


def test_a_damaged_sdist_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    entry, cache = project(tmp_path)
    path = cache / "sdists" / entry.sdist
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="cannot download calc") as caught:
        fetch(entry, cache_dir=cache)
    assert entry.sha256[:12] in caught.value.remedy


def test_another_licence_than_the_recorded_one_is_refused(tmp_path):
    entry, cache = project(tmp_path, files=FILES | {"LICENSE": LICENCE + "But pay first.\n"})
    with pytest.raises(UserError, match="licence of calc"):
        read_sdist(entry, sdist=fetch(entry, cache_dir=cache))


def test_an_excluded_file_is_not_in_the_tree(tmp_path):
    assert "tests/test_core.py" not in read(tmp_path, excluded_tests={"tests/test_core.py": "red"})


def test_a_file_to_mutate_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="calc/gone"):
        read(tmp_path, mutated=["calc/gone.py"])


@pytest.mark.parametrize("entry", load_lock(LOCK), ids=lambda entry: entry.name)
def test_the_lock_file_of_the_repository_pins_each_project(entry):
    assert entry.licence in ALLOWED
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert re.fullmatch(r"[0-9a-f]{64}", entry.licence_sha256)
    stem = re.sub(r"[-_.]+", "-", entry.sdist.removesuffix(f"-{entry.version}.tar.gz"))
    assert stem.lower() == entry.name
    assert entry.mutated
    assert all(path.partition("/")[0] in entry.roots for path in entry.mutated)
    assert all(is_test_file(name.partition("::")[0]) for name in entry.excluded_tests)
    assert all(entry.excluded_tests.values())


def test_the_lock_file_of_the_repository_fills_every_split():
    entries = load_lock(LOCK)
    assert len(entries) >= 30
    splits = Counter(entry.split for entry in entries)
    assert splits["dev"] >= 3
    assert splits["test"] >= 4


@pytest.mark.parametrize("text", ["{", '{"calc": {"version": "1.0"}}'], ids=["JSON", "fields"])
def test_a_damaged_lock_file_is_one_error(tmp_path, text):
    lock, _ = pack(tmp_path)
    lock.write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"projects\.lock\.json"):
        load_lock(lock)
    with pytest.raises(UserError, match="no lock file"):
        load_lock(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("calc/core.py", False),
        ("calc/testing.py", False),
        ("tests/helpers.py", True),
        ("calc/tests/__init__.py", True),
        ("test_core.py", True),
        ("calc/core_test.py", True),
        ("conftest.py", True),
        ("calc/tests.py", True),
    ],
)
def test_what_belongs_to_a_suite(path, expected):
    assert is_test_file(path) is expected


@pytest.mark.network
@pytest.mark.parametrize("entry", load_lock(LOCK), ids=lambda entry: entry.name)
def test_a_project_downloads_and_its_suite_is_green(entry, tmp_path):
    files = read_sdist(entry, sdist=fetch(entry, cache_dir=tmp_path))
    interpreter = entry.find_interpreter(cache_dir=tmp_path)
    stable = find_stable_tests(files, excluded=entry.excluded_tests, interpreter=interpreter)
    assert len(stable) >= 0.9 * entry.num_tests
