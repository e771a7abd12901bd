"""Folders on a shared disk: too much is noticed, and anything can be removed."""

import contextlib
import mmap
import os
import socket
import threading
from pathlib import Path

import pytest

from envs.sandbox.child_main import _READY, _collect
from envs.sandbox.scratch_dir import MAX_DEPTH, _walk, is_overgrown, remove_tree

LIMITS = {"max_bytes": 2**20, "max_files": 50, "max_written": 2**60}


def test_a_small_folder_is_not_overgrown(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(bytes(1000))
    (tmp_path / "link").symlink_to("/usr")
    assert not is_overgrown(tmp_path, os.getpid(), **LIMITS)


@pytest.mark.parametrize("how", ["bytes", "files", "depth"])
def test_too_much_is_noticed(tmp_path, how):
    if how == "bytes":
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub/big").write_bytes(b"x" * (2**20 + 1))
    elif how == "files":
        for number in range(51):
            (tmp_path / str(number)).symlink_to("nowhere")
    else:
        make_deep(tmp_path, MAX_DEPTH + 1, b"d")
    assert is_overgrown(tmp_path, os.getpid(), **LIMITS)


@pytest.mark.parametrize("how", ["gone", "link", "file"])
def test_what_cannot_be_looked_at_is_too_much(tmp_path, how):
    scratch = tmp_path / "scratch"
    if how == "link":
        (tmp_path / "elsewhere").mkdir()
        scratch.symlink_to(tmp_path / "elsewhere")
    elif how == "file":
        scratch.touch()
    assert is_overgrown(scratch, os.getpid(), **LIMITS)


def test_folders_that_become_links_while_they_are_looked_at_are_never_followed(tmp_path):
    scratch, big = tmp_path / "scratch", tmp_path / "big"
    for folder in (big, scratch, scratch / "folder"):
        folder.mkdir()
    for number in range(60):
        (big / str(number)).touch()
    (scratch / "link").symlink_to(big)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            (scratch / "folder").rename(scratch / "kept")
            (scratch / "link").rename(scratch / "folder")
            (scratch / "folder").rename(scratch / "link")
            (scratch / "kept").rename(scratch / "folder")

    thread = threading.Thread(target=swap)
    thread.start()
    counts = []
    for _ in range(300):
        with contextlib.suppress(OSError):  # then the look counts as too much
            counts.append(len(list(_walk(os.open(scratch, os.O_RDONLY), MAX_DEPTH))))
    is_over.set()
    thread.join()
    assert counts and max(counts) < 10


@pytest.mark.parametrize("how", ["call", "mapping"])
def test_files_without_a_name_count_as_written(tmp_path, how):
    """In a process of its own, which what others write does not reach."""
    limits = LIMITS | {"max_written": 2**20}
    child = os.fork()
    if child == 0:
        file = os.open(tmp_path / "gone", os.O_CREAT | os.O_RDWR)
        os.truncate(file, 2**21)
        (tmp_path / "gone").unlink()
        if is_overgrown(tmp_path, os.getpid(), **limits):
            os._exit(1)
        if how == "call":
            os.write(file, bytes(2**21))
        else:
            mmap.mmap(file, 2**21).write(bytes(2**21))
        os._exit(0 if is_overgrown(tmp_path, os.getpid(), **limits) else 2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "mapping" and status == 2 and is_tmpfs(tmp_path):
        pytest.skip("the kernel does not count this of a tmpfs")
    assert status == 0


def is_tmpfs(path: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().split("\n") if line]
    found = [each for each in mounts if path.is_relative_to(each[1])]
    return max(found, key=lambda each: len(each[1]))[2] == "tmpfs"


@pytest.mark.parametrize("written", [b"", _READY + b"line"])
def test_a_guard_that_looks_late_still_sees_that_the_candidate_was_ready(written):
    reader, writer = os.pipe()
    ours, theirs = socket.socketpair()
    os.write(writer, written)
    os.close(writer)
    with contextlib.closing(ours), contextlib.closing(theirs):
        report = _collect(reader, ours, 9.0, overgrown=lambda: True)
    os.close(reader)
    assert report == (written, "overflow" if written else "exited")


def test_the_clock_of_a_run_starts_when_its_layers_are_on():
    reader, writer = os.pipe()
    ours, theirs = socket.socketpair()

    def become_ready() -> None:
        os.write(writer, _READY)
        os.close(writer)

    with contextlib.closing(ours), contextlib.closing(theirs):
        threading.Timer(1.5, become_ready).start()
        assert _collect(reader, ours, 1.0, overgrown=None) == (_READY, "exited")
    os.close(reader)


def test_anything_is_removed_and_no_link_is_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top = tmp_path / "top"
    top.mkdir()
    make_deep(top, 300, b"d" * 20)
    make_deep(top, 30, b"\xff" * 255)
    (top / "link").symlink_to(kept)
    os.close(os.open(bytes(top) + b"/\n\x01*", os.O_CREAT, 0))
    (top / "0").mkdir()
    (top / "0/inner").mkdir()
    (top / "0/inner").chmod(0o300)
    (top / "0").chmod(0)
    remove_tree(top)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert (kept / "file").exists()


def make_deep(top: Path, depth: int, name: bytes) -> None:
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open(b"last", os.O_CREAT, dir_fd=fd))
    os.close(fd)
