"""What sandbox attacks aim at: a secret, listeners and a victim of this test's own, all harmless.

Everything is on the loopback interface or in a temporary folder and goes away with the world.
`World.harm` says what was touched, `remains` what a run left behind.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic

from envs.sandbox.kernel import cgroups
from envs.sandbox.levels import MEMORY_BYTES, ServerProcess

ROOT = Path(__file__).resolve().parents[2]


class World:
    """Things of the machine that no run may touch; closed as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret.txt"
        self.token = secrets.token_hex(16)
        self.secret.write_text(self.token)
        folder.chmod(0o777)
        self.secret.chmod(0o666)
        self._streams = [
            socket.create_server(("127.0.0.1", 0)),
            _listen(str(folder / "service")),
            _listen(f"\0tightrope-{self.token}"),
        ]
        (folder / "service").chmod(0o777)
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(("127.0.0.1", 0))
        for channel in (*self._streams, self._datagrams):
            channel.setblocking(False)
        self._victim = subprocess.Popen(
            [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        )
        self._signals: list[int] = []
        self._old_handler = signal.signal(
            signal.SIGUSR1, lambda kind, _: self._signals.append(kind)
        )
        self._before = self._state()

    def facts(self, server: ServerProcess) -> dict[str, object]:
        """Return what an attack is told about its aims: everything but the secret."""
        site = sysconfig.get_path("purelib")
        cache = os.environ.get("TIGHTROPE_CACHE", str(ROOT / ".cache"))
        places = [
            str(Path.home()),
            str(ROOT),
            cache,
            tempfile.gettempdir(),
            "/tmp",
            "/home",
            "/var",
        ]
        return {
            "secret": str(self.secret),
            "folder": str(self.folder),
            "tcp": self._streams[0].getsockname()[1],
            "udp": self._datagrams.getsockname()[1],
            "unix": str(self.folder / "service"),
            "abstract": f"\0tightrope-{self.token}",
            "victim": self._victim.pid,
            "supervisor": os.getpid(),
            "server": server.pid,
            "scratch": str(server.scratch),
            "places": places,
            "ways": [sys.base_prefix, sys.prefix],
            "sites": [site, "/usr/lib/python3/dist-packages"],
            "package": "pydantic",
            "copy": pydantic.__file__,
            "uid": os.getuid(),
            "groups": server.layers.groups,
            "memory": MEMORY_BYTES["pytest"],
        }

    def harm(self) -> list[str]:
        """Return what was touched."""
        found = []
        for channel in self._streams:
            with contextlib.suppress(BlockingIOError):
                channel.accept()[0].close()
                found.append("a stream listener was called")
        with contextlib.suppress(BlockingIOError):
            self._datagrams.recv(512)
            found.append("a datagram arrived")
        if self._victim.poll() is not None:
            found.append("the victim died")
        elif self._state() != self._before:
            found.append(f"changed: {self._state()} was {self._before}")
        return found + [f"signal {kind}" for kind in self._signals]

    def close(self) -> None:
        """End what the world started."""
        signal.signal(signal.SIGUSR1, self._old_handler)
        self._victim.kill()
        self._victim.wait()
        for channel in (*self._streams, self._datagrams):
            channel.close()

    def _state(self) -> object:
        status = self.secret.stat()
        pid = self._victim.pid
        return (
            (self.secret.read_text() == self.token, status.st_mode, status.st_mtime_ns),
            (status.st_uid, status.st_nlink, sorted(self.folder.iterdir())),
            (os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid)),
            os.sched_getscheduler(pid),
        )


@contextlib.contextmanager
def open_world() -> Iterator[World]:
    """Make a world in a temporary folder, whose path leaves room for a socket's (108 bytes)."""
    is_short = len(os.fsencode(tempfile.gettempdir())) < 60
    place = None if is_short else "/tmp"
    with tempfile.TemporaryDirectory(prefix="world-", dir=place) as folder:
        world = World(Path(folder))
        try:
            yield world
        finally:
            world.close()


@dataclass(frozen=True)
class Remains:
    """What there is of processes, groups, descriptors, mounts and files."""

    processes: frozenset[int]
    groups: frozenset[str]
    num_descriptors: int
    num_mounts: int
    files: tuple[str, ...]

    def is_no_more_than(self, before: "Remains") -> bool:
        """Tell whether nothing was added, and no file taken away; others may have ended."""
        return (
            self.processes <= before.processes
            and self.groups <= before.groups
            and self.num_descriptors <= before.num_descriptors
            and self.num_mounts <= before.num_mounts
            and self.files == before.files
        )


def remains(server_pid: int, scratch: Path) -> Remains:
    """Return what there is now of a server's, to be compared."""
    bases = cgroups.find_bases()
    prefix = f"tightrope-{server_pid}-"
    return Remains(
        processes=frozenset(descendants(server_pid)),
        groups=frozenset(path.name for base in bases for path in base.glob(f"{prefix}*")),
        num_descriptors=len(list(Path("/proc/self/fd").iterdir())),
        num_mounts=Path("/proc/self/mountinfo").read_text().count("\n"),
        files=tuple(sorted(map(str, scratch.iterdir()))) if scratch.exists() else (),
    )


def parents_of_all() -> dict[int, int]:
    """Return the parent of every process, of dead ones that nobody waited for included."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text()
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def descendants(pid: int) -> list[int]:
    """Return the pids of all processes below `pid`, dead ones that nobody waited for included."""
    parents = parents_of_all()
    found: set[int] = set()
    wave = {pid}
    while wave:
        wave = {child for child, parent in parents.items() if parent in wave} - found
        found |= wave
    return sorted(found)


def is_running(pid: int) -> bool:
    """Tell whether the process lives; one that only waits to be reaped does not.

    Orphans fall to the first process of the machine or the container, which may reap nobody.
    """
    with contextlib.suppress(OSError):  # not there, or gone while it was read
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    return False


def settles(condition: Callable[[], bool], *, limit_s: float = 30.0) -> bool:
    """Wait until `condition` holds; returns whether it does. The limit is for a busy machine."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen()
    return listener
