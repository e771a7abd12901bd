import codecs
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.plain_text import representable
from envs.projects.local_folder import open_local
from envs.sandbox.interpreter import find_own_interpreter
from envs.source_text import file_bytes
from envs.tasks.store import TaskStore
from tests.envs.projects.small_project import FILES, TESTS
from tightrope_cli.main import run_verb

MORE = "".join(
    f"\n\ndef test_more_{n}():\n    assert clamp({n}, 0, 50) == {n}\n" for n in range(10)
)
OF_DEPENDENCY = (
    "\n\ndef test_of_dependency():\n    import dependency\n    assert dependency.SIX == 6\n"
)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Make a virtual environment with pytest and a package that this one lacks."""
    folder = tmp_path_factory.mktemp("users") / "v"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in map(Path, find_own_interpreter().packages):
        copy = shutil.copytree if package.is_dir() else shutil.copy
        copy(package, site / package.name)
    (site / "dependency.py").write_text("SIX = 6\n", "utf-8")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)  # runs have a user id of their own, in a sandbox without private root
    return folder / "bin" / "python"


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "mine")


def write(folder, tests=TESTS + MORE):
    for path, text in (FILES | {"tests/test_core.py": tests}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return folder


def digest(folder):
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_tasks_of_a_users_project_with_its_own_python(
    folder, python, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TIGHTROPE_CACHE", str(tmp_path / "cache"))
    write(folder, TESTS + MORE + OF_DEPENDENCY)
    before = digest(folder) | digest(python.parents[1])
    asked = ["--path", str(folder), "--python", str(python), "--count", "2", "--split", "test"]
    out = ["--out", str(tmp_path / "set")]
    assert run_verb(["tasks", "build", "--source", "path", *asked, *out]) == 0
    assert "2 test tasks of mine (24 tests" in capsys.readouterr().out
    assert digest(folder) | digest(python.parents[1]) == before
    store = TaskStore.open(tmp_path / "set")
    for task in store.public.values():
        assert (task.provenance.source, task.provenance.origin) == ("path", "path:mine")
        assert store.hidden[task.id].runtime.python == platform.python_version()
    written = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    assert not any(str(python).encode() in path.read_bytes() for path in written)
    assert run_verb(["tasks", "validate", str(tmp_path / "set")]) == 0  # the cache knows it
    monkeypatch.setenv("TIGHTROPE_CACHE", str(tmp_path / "another"))
    monkeypatch.setenv("HOME", str(tmp_path / "another"))
    with pytest.raises(UserError, match="--python EXE"):
        run_verb(["tasks", "validate", str(tmp_path / "set")])
    line = ["tasks", "validate", str(tmp_path / "set"), "--python", str(python)]
    assert run_verb(line) == 0
    shown, where = next(iter(store.public.values())), f"--tasks.dir={tmp_path / 'set'}"
    assert run_verb(["tasks", "show", shown.id, "--config", "configs/tiny.yaml", where]) == 0
    assert store.workspace(shown)["tests/test_core.py"].rstrip() in capsys.readouterr().out
    entry, _ = open_local(folder, python=None, cache_dir=tmp_path)
    (reason,) = entry.excluded_tests.values()
    assert "No module named 'dependency'" in reason


def test_nothing_is_written_into_the_project_though_the_cache_lies_below_it(
    folder, tmp_path, monkeypatch
):
    monkeypatch.delenv("TIGHTROPE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    before = digest(folder)
    build = ["tasks", "build", "--source", "path", "--path", ".", "--count", "2"]
    assert run_verb(build) == 0
    assert digest(folder) == before
    (made,) = (tmp_path / "home" / ".cache" / "tightrope" / "tasks").glob("path-mine-*-train-2-0")
    assert len(TaskStore.open(made).public) == 2
    with pytest.raises(UserError, match="there already"):
        run_verb(build)
    with pytest.raises(UserError, match="never written to"):
        run_verb([*build, "--out", "tasks"])
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(UserError, match="never written to"):
        run_verb(build)
    assert digest(folder) == before


def test_what_cannot_be_used_is_one_clear_error(folder, python, tmp_path):
    def error(where=folder, **asked):
        with pytest.raises(UserError) as caught:
            open_local(where, **{"python": None, "cache_dir": tmp_path} | asked)
        return str(caught.value)

    assert "no such folder" in error(tmp_path / "nothing")
    assert "not a folder" in error(python)
    assert "does not start" in error(python=tmp_path / "python")
    (bare,) = python.parents[1].glob("lib/python*/site-packages/pytest-*.dist-info")
    bare = bare.rename(bare.with_name("hidden"))
    link = python.with_name("python-again")
    link.symlink_to(python)
    assert "has no pytest" in error(python=link)
    bare.rename(bare.with_name(f"pytest-{pytest.__version__}.dist-info"))

    copy = python.parents[1] / "lib" / "python" / "calc"
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    copy = site / "calc.py"
    copy.write_text("", "utf-8")
    assert "pip install -e" in error(python=python)
    copy.unlink()

    red = "".join(f"\n\ndef test_red_{n}():\n    assert evens([2]) == []\n" for n in range(4))
    write(folder, TESTS + MORE + red)
    assert "4 of 27 tests fail: tests/test_core.py::test_red_0" in error()
    (folder / "tests" / "test_core.py").unlink()
    assert "no tests" in error()


def test_a_file_that_may_not_be_read_is_named(folder, tmp_path):
    (folder / "calc" / "core.py").chmod(0)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:  # pytest's own are for its user only
        if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o77 == 0:
            parent.chmod(0o755)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        with pytest.raises(UserError, match=r"no permission .*calc/core\.py"):
            open_local(folder, python=None, cache_dir=tmp_path)
    finally:
        if is_root:
            os.seteuid(0)


def test_what_is_no_part_of_a_project_is_not_read(folder, python, tmp_path):
    shutil.copytree(python.parents[1], folder / "v", symlinks=True)
    for name in (".git/hooks/test_hook.py", "node_modules/x/test_x.py", "docs/conf.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("raise SystemExit\n", "utf-8")
    (folder / "calc" / "link.py").symlink_to("/etc/passwd")
    _, files = open_local(folder, python=None, cache_dir=tmp_path)
    mine = ["calc/__init__.py", "calc/core.py", "docs/conf.py", "setup.cfg", "tests/test_core.py"]
    assert sorted(files) == mine


ODD_SOURCES = {
    "calc/latin.py": b"# coding: latin-1\r\nNAME = '\xe9\x85'\r\n",
    "calc/euc.py": "# -*- coding: euc-jp -*-\nNAME = '\u65e5\u672c'\n".encode("euc-jp"),
    "calc/marked.py": codecs.BOM_UTF8 + b"NAME = 'x'",
    "calc/lines.py": "NAME = '\u2028\x85\x0c'\r\nNEXT = 1\r".encode(),
}
UNREADABLE = {
    "calc/broken.py": (b"NAME = '\xe9'\n", "not utf-8 at byte 9"),
    "calc/klingon.py": (b"# coding: klingon\n", "unknown encoding klingon"),
    "tests/test_bad.py": (b"# coding: ascii\nX = '\xff'\n", "not ascii at byte 22"),
    os.fsdecode(b"calc/na\xffme.py"): (b"X = 1\n", "its name is no text"),
}


def test_sources_in_any_encoding_are_taken_byte_for_byte(folder, tmp_path, caplog):
    told = {path: hashlib.sha256(data).hexdigest() for path, data in ODD_SOURCES.items()}
    read = "hashlib.sha256(Path(path).read_bytes()).hexdigest()"
    head = "\ufeffimport hashlib\r\nfrom pathlib import Path\r\n"
    body = f"def test_bytes():\r\n    for path, sha in {told!a}.items():\r\n"
    test = f"{head}{body}        assert {read} == sha\r\n"
    unread = {path: data for path, (data, _) in UNREADABLE.items()}
    files = {**ODD_SOURCES, **unread, "tests/test_bytes.py": test.encode()}
    for path, data in files.items():
        (folder / path).write_bytes(data)
    entry, tree = open_local(folder, python=None, cache_dir=tmp_path / "cache")
    assert entry.num_tests > 20
    for path in (*ODD_SOURCES, "tests/test_bytes.py"):
        assert file_bytes(path, tree[path]) == files[path]
    assert not tree.keys() & UNREADABLE.keys()
    named = [record.getMessage() for record in caplog.records]
    for path, (_, reason) in UNREADABLE.items():
        assert f"left out: {representable(path)} ({reason})" in named
