"""A workbench whose tools fail as machines do: on request, or for a share of the calls.

    FaultyBench(store, grader).use_tools(..., [call("search", pattern="fault: hang")])

It stands in a real worker process, so what it does to itself is done to that.
"""

import ctypes
import errno
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from envs.errors import InfrastructureError
from envs.grading.graders import Equipment, RoutingGrader, TaskFiles, make_grader
from envs.records import ToolCall
from envs.sandbox.levels import ServerProcess
from envs.tools import TurnDone
from envs.workers.workbench import Workbench
from envs.workspace import Changes

NO_FAULTS: Mapping[str, float] = {}


def fail() -> None:
    raise InfrastructureError("injected")


def hang() -> None:
    time.sleep(600)


def hang_deep() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")  # in C, with the interpreter's lock held


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_files() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def no_memory() -> None:
    raise MemoryError


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def exit_python() -> None:
    sys.exit(4)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def bug() -> None:
    raise KeyError("a bug of ours")


FAULTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        *(fail, hang, hang_deep, full_disk, no_files, no_memory),
        *(crash, leave, exit_python, stop, be_killed, bug),
    )
}


class FaultyBench(Workbench):
    """Fails where a call asks for it, or a draw does.

    Args:
        shares: Of tool calls that fail, by the name of the fault; `kill_server` too.
        seed: Of the draws.
    """

    def __init__(
        self,
        store: TaskFiles,
        grader: RoutingGrader,
        *,
        shares: Mapping[str, float] = NO_FAULTS,
        seed: int = 0,
    ) -> None:
        super().__init__(store, grader)
        self._routing, self._shares = grader, shares
        self._random = random.Random(seed * 2**32 + os.getpid())

    def use_tools(self, task_id: str, changes: Changes, calls: Sequence[ToolCall]) -> TurnDone:
        for call in calls:
            asked = str(call.arguments.get("pattern", ""))
            if asked.startswith("fault: "):
                FAULTS[asked.removeprefix("fault: ")]()
            self._draw()
        return super().use_tools(task_id, changes, calls)

    def look(self, task_id: str) -> dict[str, object]:
        """Say what this process is made of."""
        del task_id
        return {
            "pid": os.getpid(),
            "modules": sorted(sys.modules),
            "threads": threading.active_count(),
            "files": [str(path.readlink()) for path in open_files()],
            "servers": [server.pid for server in self.servers()],
        }

    def servers(self) -> list[ServerProcess]:
        return [each._process for each in self._routing._servers.values() if each._process]

    def _draw(self) -> None:
        drawn = self._random.random()
        for name, share in self._shares.items():
            if 0 <= drawn < share:
                return self._kill_server() if name == "kill_server" else FAULTS[name]()
            drawn -= share

    def _kill_server(self) -> None:
        """Kill a fork-server, or this worker if it has none yet."""
        servers = self.servers()
        os.kill(servers[-1].pid if servers else os.getpid(), signal.SIGKILL)


def open_files() -> list[Path]:
    return [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


@contextmanager
def open_faulty(
    store: TaskFiles,
    *,
    equipment: Equipment,
    cache_dir: Path,
    second_runner_share: float = 0.0,
    shares: Mapping[str, float] = NO_FAULTS,
    seed: int = 0,
    max_servers: int = 6,
) -> Iterator[FaultyBench]:
    with make_grader(
        store,
        second_runner_share=second_runner_share,
        cache_dir=cache_dir,
        equipment=equipment,
        max_servers=max_servers,
    ) as grader:
        yield FaultyBench(store, grader, shares=shares, seed=seed)
