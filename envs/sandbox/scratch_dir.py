"""The folder of a run on a disk that others share: watched while the run lasts, removed after it.

Only where no tmpfs can be mounted. Limits of a process bound each file, not their number, so the
guard looks at the whole folder every now and then. Nothing follows a link or trusts a name: the
candidate chose them all. Standard library only.

Not covered: between two looks the limits can be passed by what a process writes in that time; a
file that was deleted while open is bounded by the limits of one process only.
"""

import contextlib
import errno
import itertools
import os
from pathlib import Path

WATCH_S = 0.05  # between two looks; a look at a hundred files takes about 1 ms
MAX_THREADS = 64
_LONG_PATH = 3_000  # bytes; the kernel takes 4,095


def is_overgrown(scratch: Path, pid: int, *, max_bytes: int, max_files: int) -> bool:
    """Tell whether a run holds more than it may.

    Args:
        scratch: Its folder; a part of it that cannot be looked at counts as too much.
        pid: Its process, whose threads are counted.
        max_bytes: Of all files together, as the disk counts them.
        max_files: Files, folders and links.
    """
    size = count = 0
    pending = [os.fsencode(scratch)]
    try:
        while pending:
            with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
                for entry in entries:
                    count += 1
                    size += _disk_bytes(entry)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    if size > max_bytes or count > max_files:
                        return True
    except OSError as error:
        if error.errno in (errno.EACCES, errno.ENAMETOOLONG):
            return True
        raise
    return _num_threads(pid) > MAX_THREADS


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


def _disk_bytes(entry: "os.DirEntry[bytes]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def _num_threads(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").split("\n"):
            if line.startswith("Threads:"):
                return int(line.split()[1])
    return 0


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
