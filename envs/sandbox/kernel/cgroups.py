"""Control groups of the kernel, v1 and v2: bound and count what all processes of a run do together.

Memory and the number of processes are bounded. The cores are shared out by group where that can be
had, so that a run of many processes or sessions gets no more of them than one beside it.

    bases = find_bases()              # () if this machine lets us make no groups
    fds = [os.open(base, os.O_RDONLY) for base in bases]
    make_group(fds, "run-1", memory_bytes=2**30, max_processes=32)
    join_group(fds, "run-1")          # in the run's first process
    count_cpu_s(fds, "run-1")
    remove_group(fds, "run-1")        # when all of its processes are dead

Groups are named through directory descriptors, because a private root has no /sys. Root has them,
and a user to whom systemd delegated a subtree; in a default container they are read-only. Standard
library only.

Not covered: swap.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_NEEDED = ("memory", "pids")
_USEFUL = ("cpu", "cpuacct")  # of version 1; in version 2 every group counts, and has a share
_REMOVE_LIMIT_S = 2.0


def find_bases(proc: Path = Path("/proc/self")) -> tuple[Path, ...]:
    """Return the folders in which to make a group that bounds memory and processes, or ().

    Args:
        proc: The process's own folder of /proc.
    """
    bases = _candidates(proc) if (proc / "cgroup").exists() else ()
    if not _takes_limits(bases):
        return ()
    more = [base for base in _candidates(proc, _USEFUL) if base not in bases]
    return (*bases, *(base for base in more if _takes_limits((*bases, base))))


def make_group(bases: Sequence[int], name: str, *, memory_bytes: int, max_processes: int) -> None:
    """Make a group below each base and set its limits.

    Raises:
        OSError: The machine refuses, or there is no memory and no pids controller.
    """
    limits = {
        "memory.limit_in_bytes": memory_bytes,
        "memory.max": memory_bytes,
        "pids.max": max_processes,
    }
    share = _own_share()
    shares = {"cpu.shares": max(2, int(1024 * share)), "cpu.weight": max(1, int(100 * share))}
    written = set[str]()
    for base in bases:
        os.mkdir(name, dir_fd=base)
        for file, limit in {**limits, **shares}.items():
            with contextlib.suppress(FileNotFoundError):  # the other version's, or controller's
                _write(base, f"{name}/{file}", str(limit))
                written.add(file)
    if len(written & limits.keys()) != len(_NEEDED):
        raise FileNotFoundError("cgroup: no memory or pids controller")


def _own_share() -> float:
    """Return what a group weighs among its neighbours: as much as the process that makes it.

    A user who gave this process what others leave (`nice`, `chrt --idle`) means all that it starts.
    """
    if os.sched_getscheduler(0) == os.SCHED_IDLE:
        return 0.003  # of an ordinary process, as in the kernel's WEIGHT_IDLEPRIO
    return float(1.25 ** -os.getpriority(os.PRIO_PROCESS, 0))


def join_group(bases: Sequence[int], name: str) -> None:
    """Move the calling process, which must have one thread, into the group."""
    for base in bases:
        _write(base, f"{name}/cgroup.procs", "0")


def count_cpu_s(bases: Sequence[int], name: str) -> float:
    """Return the CPU seconds of all that was ever in the group, 0 if the machine does not tell."""
    for base in bases:
        with contextlib.suppress(OSError):
            return int(_read(base, f"{name}/cpuacct.usage")) / 1e9
        with contextlib.suppress(OSError):
            told = dict(line.split(" ", 1) for line in _read(base, f"{name}/cpu.stat").split("\n"))
            if "usage_usec" in told:  # not in version 1
                return int(told["usage_usec"]) / 1e6
    return 0.0


def remove_group(bases: Sequence[int], name: str) -> None:
    """Remove the group; waits a little for the kernel to bury its processes."""
    deadline = time.monotonic() + _REMOVE_LIMIT_S
    for base in bases:
        while True:
            try:
                os.rmdir(name, dir_fd=base)
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.005)
            else:
                break


def remove_groups(bases: Sequence[int], prefix: str) -> None:
    """Remove every group whose name starts with `prefix`."""
    for base in bases:
        for name in os.listdir(base):  # noqa: PTH208 (a descriptor has no Path)
            if name.startswith(prefix):
                remove_group(bases, name)


def remove_groups_of(pid: int) -> None:
    """Remove every group that a process has made."""
    with opened(find_bases()) as fds:
        remove_groups(fds, name_group(pid))


def name_group(pid: int, *parts: object) -> str:
    """Return the name of a group that a process makes; without parts how all of them begin."""
    return f"tightrope-{pid}-" + "-".join(map(str, parts))


@contextlib.contextmanager
def opened(bases: Sequence[Path]) -> Iterator[list[int]]:
    """Yield a descriptor of each base."""
    with contextlib.ExitStack() as stack:
        fds: list[int] = []
        for base in bases:
            fds.append(os.open(base, os.O_RDONLY | os.O_DIRECTORY))
            stack.callback(os.close, fds[-1])
        yield fds


def _candidates(proc: Path, wanted: Sequence[str] = _NEEDED) -> tuple[Path, ...]:
    own = _own_groups(proc)
    found: list[Path] = []
    for controller in wanted:
        for root, mount_point, controllers in _mounts(proc):
            inside = Path("/", own.get(controller if controllers else "", "/"))
            at = mount_point / (inside.relative_to(root) if inside.is_relative_to(root) else "")
            if controllers is None and controller in _NEEDED:
                found += [base for base in [_delegated(at, mount_point)] if base]
            elif controllers and controller in controllers:
                found.append(at)
    return tuple(dict.fromkeys(found))


def _lines(path: Path) -> list[str]:
    """Return a file's lines; names of folders in it may hold what else is taken for line ends."""
    return path.read_text("utf-8", "surrogateescape").removesuffix("\n").split("\n")


def _own_groups(proc: Path) -> dict[str, str]:
    """Return this process's group by controller; '' is that of version 2."""
    own: dict[str, str] = {}
    for line in _lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    return own


def _mounts(proc: Path) -> list[tuple[str, Path, frozenset[str] | None]]:
    """Return (root of the mount, where it is, its controllers: None for version 2)."""
    found: list[tuple[str, Path, frozenset[str] | None]] = []
    for line in _lines(proc / "mountinfo"):
        place, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        root, mount_point = place.split(" ")[3:5]
        if kind == "cgroup":
            found.append((root, Path(mount_point), frozenset(options.split(","))))
        elif kind == "cgroup2":
            found.append((root, Path(mount_point), None))
    return found


def _delegated(group: Path, top: Path) -> Path | None:
    """Return the nearest group of version 2 that hands both controllers to its children."""
    for folder in [group, *group.parents]:
        with contextlib.suppress(OSError):
            handed = (folder / "cgroup.subtree_control").read_text("ascii").split()
            if set(_NEEDED) <= set(handed):
                return folder
        if folder == top:
            break
    return None


def _takes_limits(bases: Sequence[Path]) -> bool:
    """Tell whether groups can be made there, by making one that no other thread makes as well."""
    name = name_group(os.getpid(), "probe", secrets.token_hex(4))
    try:
        with opened(bases) as fds, contextlib.ExitStack() as stack:
            stack.callback(remove_group, fds, name)
            make_group(fds, name, memory_bytes=2**30, max_processes=64)
    except OSError:
        return False
    return True


def _read(base: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY, dir_fd=base)
    try:
        return os.read(fd, 2**16).decode("ascii").strip()
    finally:
        os.close(fd)


def _write(base: int, name: str, text: str) -> None:
    fd = os.open(name, os.O_WRONLY, dir_fd=base)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
