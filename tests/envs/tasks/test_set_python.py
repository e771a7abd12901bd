import sys
from dataclasses import replace

import pytest

from envs.errors import UserError
from envs.records import Runtime
from envs.sandbox.interpreter import find_interpreter
from envs.tasks.set_python import choose_python, write_for
from envs.tasks.store import Manifest, TaskStore
from tests.envs.small_tasks import pytest_task


def write(tmp_path, python, *, cache, licence="MIT"):
    task = pytest_task()
    hidden = task.hidden.model_copy(update={"runtime": Runtime(python="3.11.2", paths=())})
    task = replace(task, hidden=hidden)
    manifest = Manifest(source="path", seed=0, licence=licence)
    folder = tmp_path / f"set-{licence}"
    write_for(python, folder, tasks=[task], manifest=manifest, cache_dir=tmp_path / cache)
    return TaskStore.open(folder)


def test_the_cache_knows_what_a_set_that_was_built_here_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = write(tmp_path, "/here/python", cache="cache")
    assert choose_python(store, None, cache_dir=tmp_path / "cache") == "/here/python"
    assert choose_python(store, "/mine", cache_dir=tmp_path / "cache") == "/mine"
    assert choose_python(store, None, cache_dir=tmp_path / "other") == ""
    write(tmp_path, "/home/python", cache=".cache/tightrope")
    assert choose_python(store, None, cache_dir=tmp_path / "other") == "/home/python"
    assert store.folder is not None
    written = [path for path in store.folder.rglob("*") if path.is_file()]
    assert not any(b"/here/python" in path.read_bytes() for path in written)


def test_another_set_is_another(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "/here/python", cache="cache")
    other = write(tmp_path, "", cache="cache", licence="ISC")
    assert choose_python(other, None, cache_dir=tmp_path / "cache") == ""


def test_what_a_set_says_is_never_started(tmp_path):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", "utf-8")
    program.chmod(0o755)
    runtime = Runtime.model_validate_json(f'{{"python": "{program}"}}')
    assert runtime.python == "unknown"
    with pytest.raises(UserError, match="these tasks need a Python of yours") as caught:
        find_interpreter(runtime, cache_dir=tmp_path)
    assert "--python EXE" in caught.value.remedy
    assert not (tmp_path / "started").exists()


def test_another_version_is_refused(tmp_path):
    with pytest.raises(UserError, match="made with another Python"):
        find_interpreter(Runtime(python="3.8.1"), python=sys.executable, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "pin",
    [
        "https://example.org/x-1.0.tar.gz",
        "x @ file:///etc",
        "--index-url=https://example.org",
        "-r /etc/passwd",
        "./here",
        "x==1.0",
        f"x==1.0 --hash=sha256:{'0' * 64}\n--no-index",
        f"x==1.0 --hash=sha256:{'0' * 64} --global-option=a",
        f"x>=1.0 --hash=sha256:{'0' * 64}",
    ],
)
def test_requirements_are_pins_and_nothing_else(tmp_path, pin):
    with pytest.raises(UserError, match="requirements are pins of wheels"):
        find_interpreter(Runtime(requirements=(pin,)), cache_dir=tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"paths": ("/etc",)},
        {"paths": ("a/../../b",)},
        {"paths": ("",)},
        {"environment": (("LD_PRELOAD", "x"),)},
        {"environment": (("PYTHONPATH", "x"),)},
        {"environment": (("A=B", "x"),)},
        {"environment": (("A", "\0"),)},
        {"environment": (("A", "x" * 100_000),)},
    ],
)
def test_suites_get_no_variable_of_the_loader_and_no_folder_outside(tmp_path, fields):
    with pytest.raises(UserError, match="what no suite may have"):
        find_interpreter(Runtime(**fields), cache_dir=tmp_path)
