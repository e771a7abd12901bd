"""The folder of a run on a disk that others share: watched while the run lasts, removed after it.

Only where no tmpfs can be mounted. Limits of a process bound each file, not their number, so the
guard looks at the whole folder every now and then, and at how much was ever written: a file without
a name that is open or mapped is in no folder. Nothing follows a link or trusts a name: the
candidate chose them all, and changes them while they are looked at. Standard library only.

Not covered: between two looks the limits can be passed by what a process writes in that time; on a
tmpfs, what is written through a mapping of a file without a name.
"""

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from envs.sandbox.kernel import isolation

WATCH_S = 0.05  # between two looks; a look at a hundred files takes about 1 ms
MAX_THREADS = 64
MAX_DEPTH = 100  # of folders; a look holds a descriptor of each on its way
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONG_PATH = 3_000  # bytes; the kernel takes 4,095


def is_overgrown(
    scratch: Path,
    pid: int,
    *,
    max_bytes: int,
    max_files: int,
    max_written: int,
    uid: int | None = None,
) -> bool:
    """Tell whether a run holds more than it may; one that cannot be looked at does.

    Args:
        scratch: Its folder.
        pid: Its process, whose threads are counted.
        max_bytes: Of all files together, as the disk counts them.
        max_files: Files, folders and links.
        max_written: Bytes that it has ever written, to whatever.
        uid: Its user id, if it has one of its own.
    """
    size = count = 0
    try:
        for bytes_on_disk in _walk(os.open(scratch, _FOLDER), MAX_DEPTH):
            size, count = size + bytes_on_disk, count + 1
            if size > max_bytes or count > max_files:
                return True
    except OSError:
        return True
    return _num_threads(pid) > MAX_THREADS or _written_bytes(pid, uid) > max_written


def remove_tree(top: Path) -> None:
    """Remove `top` and all below it, however deep, named or closed it is."""
    fresh = itertools.count()
    pending = [top]
    while pending:
        folder = pending[-1]
        folder.chmod(0o700)
        for path in [path for path in folder.iterdir() if not _removed(path)]:
            if len(os.fsencode(path)) > _LONG_PATH:  # `top` looks at its entries again
                path.chmod(0o700)
                path.rename(_free_name(top, fresh))
            else:
                pending.append(path)
        if pending[-1] == folder and not any(True for _ in folder.iterdir()):
            folder.rmdir()
            pending.pop()


def _walk(folder: int, depth: int) -> Iterator[int]:
    """Yield the size on disk of each entry in `folder` and below; closes the descriptor.

    Raises:
        OSError: It is too deep, closed, or became something else on the way.
    """
    try:
        if depth == 0:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        folders = []
        with os.scandir(folder) as entries:
            for entry in entries:
                yield _disk_bytes(entry)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
        for name in folders:
            try:
                inner = os.open(name, _FOLDER, dir_fd=folder)
            except FileNotFoundError:  # removed since
                continue
            yield from _walk(inner, depth - 1)
    finally:
        os.close(folder)


def _disk_bytes(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def _num_threads(pid: int) -> int:
    return _read_numbers(pid, "status").get("Threads", 0)


def _written_bytes(pid: int, uid: int | None) -> int:
    """Return what it has written by calls or through mappings, 0 where that cannot be asked."""
    numbers = _read_numbers(pid, "io")
    if not numbers and uid is not None:  # a container's root may not look at everybody's
        with isolation.acting_as(uid):
            numbers = _read_numbers(pid, "io")
    return max(numbers.get("wchar", 0), numbers.get("write_bytes", 0))


def _read_numbers(pid: int, name: str) -> dict[str, int]:
    """Return the lines `name: number` of a file of the process in /proc."""
    try:
        text = Path(f"/proc/{pid}/{name}").read_text("utf-8", "replace")
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in text.split("\n"))
    return {key: int(value) for key, value in pairs if value.strip().isdigit()}


def _removed(path: Path) -> bool:
    """Remove `path` unless it is a folder with something in it, or one that is closed."""
    try:
        path.unlink()
    except (IsADirectoryError, PermissionError):
        try:
            path.rmdir()
        except OSError:
            return False
    return True


def _free_name(folder: Path, fresh: "itertools.count[int]") -> Path:
    while True:
        path = folder / str(next(fresh))
        if not os.path.lexists(path):
            return path
