"""The fork-server's own process: preloads, enters its namespaces once, then forks once per run.

    server (trusted)     waits for the socket of a run; never reads what a candidate wrote
    +- guard (trusted)   reads the run's request, watches clock and pipe, kills, reports
       +- candidate      drops everything, applies the layers, runs the submitted files

Started by `envs/sandbox/fork_server.py` as a plain file with one JSON argument (`ServerConfig`'s
fields). Holds no answers: a request carries submitted files and inputs only. Standard library only.
Tests: tests/envs/sandbox/test_leftovers.py.
"""

import contextlib
import errno
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from envs.sandbox import framing
from envs.sandbox.child_replay import run_replay
from envs.sandbox.child_runs import run_io, run_pytest, run_selftest, warm_up_pytest, write_files
from envs.sandbox.kernel import cgroups, isolation
from envs.sandbox.kernel.seccomp import FilterRules, assemble
from envs.sandbox.kernel.sleep_clock import SleepClock
from envs.sandbox.scratch_dir import WATCH_S, is_overgrown, remove_tree

RUNNERS = {"io": run_io, "pytest": run_pytest, "replay": run_replay, "selftest": run_selftest}
MAX_RESULT_BYTES = 4 * 2**20  # unless a request asks for more
SETUP_LIMIT_S = 20.0  # for a fork to put the layers on; takes 0.01 s where a core is free
FIRST_UID, NUM_UIDS = 62_000, 1_000  # inside systemd's range for transient users: owned by nobody
MAX_WRITTEN_BYTES = 4 * isolation.SCRATCH_BYTES  # to a disk that runs share with others, in all
LEAST_FREE_BYTES, LEAST_FREE_FILES = 16 * 2**20, 1_000  # of a disk that runs share with others
_ABOVE_KEPT = 8  # no descriptor that a candidate keeps is as high
_READY = b"ready\n"  # written when all layers are on, before anything submitted runs
_PRELOADED_FOR_IO = """
    abc bisect calendar collections.abc contextlib copy dataclasses datetime decimal enum fractions
    functools heapq inspect itertools json math numbers operator queue random re secrets statistics
    string textwrap traceback types typing unicodedata
"""
_PRELOADED_FOR_PYTEST = """
    _pytest.assertion.rewrite _pytest.fixtures _pytest.logging _pytest.python _pytest.unittest
    argparse ast asyncio concurrent.futures configparser csv difflib doctest email.message glob
    hashlib html io logging multiprocessing pdb pickle platform pprint pytest shutil subprocess
    tempfile threading unittest.mock urllib.parse uuid warnings weakref xml.etree.ElementTree
    zipfile
"""


def main(config: dict[str, Any]) -> None:
    """Serve until the trusted side closes its end of the control socket, then leave nothing."""
    control = socket.socket(fileno=config["control_fd"])
    os.umask(0o022)  # the user's may close a private root to runs with a user id of their own
    config["groups"] = [os.open(base, os.O_RDONLY | os.O_DIRECTORY) for base in config["groups"]]
    config["proc"] = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)  # a private root has none
    outside = os.open(Path(config["scratch"]).parent, os.O_RDONLY | os.O_DIRECTORY)
    sys.path[:] = [*sys.path[1:], *config["site"]]
    _preload(_PRELOADED_FOR_IO)
    if config["preload"] == "pytest":
        _preload(_PRELOADED_FOR_PYTEST)
        with tempfile.TemporaryDirectory(dir=config["scratch"]) as folder:
            warm_up_pytest(Path(folder))
    if config["namespaces"]:
        root = Path(tempfile.mkdtemp(prefix="root-", dir=config["scratch"]))
        isolation.enter_namespaces()
        isolation.enter_private_root(root, readable=config["readable"], hidden=config["hidden"])
    hidden = [] if config["namespaces"] else config["hidden"]  # a private root has none of them
    readable, listable = isolation.cut_out_hidden(config["readable"], hidden)
    config["visible"] = readable, [*listable, *config["site"]]  # imports list where they look
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trusted side's to handle
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guards need no reaping
    gc.collect()
    gc.freeze()
    try:
        framing.send_frame(control, {"ready": True})
        for number, run in enumerate(_requests(control)):
            if os.fork() == 0:
                control.close()
                _guarded(run, config, number)
            run.close()
    finally:  # also where the trusted side was gone before, or no process could be had
        with contextlib.suppress(ChildProcessError):
            os.wait()  # until the last guard has ended
        _clean_up(config, outside)


def _clean_up(config: dict[str, Any], outside: int) -> None:
    """Remove what guards that were killed left, and the folder: nobody else may be there to."""
    cgroups.remove_groups(config["groups"], cgroups.name_group(os.getpid()))
    os.fchdir(outside)
    with contextlib.suppress(FileNotFoundError):
        remove_tree(Path(Path(config["scratch"]).name))


def _preload(names: str) -> None:
    for name in names.split():
        importlib.import_module(name)


def _requests(control: socket.socket) -> Iterator[socket.socket]:
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        yield socket.socket(fileno=fds[0])


@dataclass(frozen=True)
class _Run:
    """One run, as its guard and its candidate see it.

    Attributes:
        config: The server's.
        request: What to run, see `envs/sandbox/child_runs.py`.
        scratch: The run's own folder.
        uid: The user id to become; None to stay.
        group: Name of its control group.
    """

    config: dict[str, Any]
    request: dict[str, Any]
    scratch: Path
    uid: int | None
    group: str


def _guarded(channel: socket.socket, config: dict[str, Any], number: int) -> None:
    """Be the guard of one run, from request to report; never returns."""
    status = 0
    try:
        isolation.die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _guard(channel, config, framing.receive_frame(channel), number)
    except (OSError, EOFError, ValueError) as error:
        with contextlib.suppress(OSError):
            framing.send_frame(channel, {"setup_error": f"{type(error).__name__}: {error}"})
        status = 1
    finally:
        os._exit(status)


def _guard(
    channel: socket.socket, config: dict[str, Any], request: dict[str, Any], number: int
) -> None:
    """Run, report, and then clean up: a candidate can make that take long."""
    place = (os.getppid() * 97 + number) % NUM_UIDS  # servers beside each other share few ids
    uid = FIRST_UID + place if config["drop_uid"] else None
    owner = (os.getuid(), os.getgid()) if uid is None else (uid, uid)
    if config["namespaces"]:
        isolation.enter_private_run(uid=owner[0], gid=owner[1])
        scratch = isolation.SCRATCH_DIR
    else:
        _check_room(Path(config["scratch"]))
        scratch = Path(tempfile.mkdtemp(prefix="box-", dir=config["scratch"]))
        os.chown(scratch, *owner)
    group = cgroups.name_group(os.getppid(), number)
    try:
        if config["groups"]:
            cgroups.make_group(
                config["groups"],
                group,
                memory_bytes=int(config["memory_bytes"]),
                max_processes=isolation.MAX_PROCESSES,
            )
        framing.send_frame(channel, _watch(channel, _Run(config, request, scratch, uid, group)))
    finally:
        cgroups.remove_group(config["groups"], group)
        if not config["namespaces"]:
            with contextlib.suppress(FileNotFoundError):
                remove_tree(scratch)


def _check_room(folder: Path) -> None:
    """Refuse to start where the disk is full before anything submitted could have filled it.

    Raises:
        OSError: There is no room for a run.
    """
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if disk.f_files and disk.f_favail < LEAST_FREE_FILES:
        raise OSError(errno.ENOSPC, "no room for more files", str(folder))


def _watch(channel: socket.socket, run: _Run) -> dict[str, Any]:
    """Fork the candidate, collect what it writes, kill all of it and say how it ended."""

    def overgrown() -> bool:
        return is_overgrown(
            run.scratch,
            pid,
            max_bytes=isolation.SCRATCH_BYTES,
            max_files=isolation.SCRATCH_FILES,
            max_written=MAX_WRITTEN_BYTES,
            uid=run.uid,
        )

    def count_s() -> float:
        return cgroups.count_cpu_s(run.config["groups"], run.group)

    reader, writer = os.pipe()
    theirs, tickets = [writer], None
    if run.request["kind"] == "pytest":
        tickets_reader, tickets_writer = os.pipe()
        theirs.append(tickets_reader)
        tickets = framing.TicketPipe(tickets_writer)
    pid = os.fork()
    if pid == 0:
        _candidate(run, theirs)
    for pipe in theirs:
        os.close(pipe)
    watched = None if run.config["namespaces"] else overgrown
    most = int(run.request.get("output_bytes", MAX_RESULT_BYTES))
    idle_s, wall_s = run.request.get("idle_s"), float(run.request["wall_s"])
    clock = None
    if idle_s is not None:
        clock = SleepClock(run.config["proc"], pid, limit_s=idle_s, count_s=count_s)
    try:
        output, ending = _collect(
            reader, channel, wall_s, most, overgrown=watched, clock=clock, tickets=tickets
        )
    finally:  # whatever a look at it came to, and before anything is cleaned up
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # pid 1 of its namespace: the kernel kills the rest too
        _, status, usage = os.wait4(pid, 0)  # what has ended by itself, the signal did not end
    os.close(reader)
    if not output.startswith(_READY):  # nothing submitted ran: whatever it was, it was not theirs
        return {"setup_error": f"{ending}: {output.decode('utf-8', 'replace')}"}
    seen_s = clock.computed_s if clock else 0.0
    output = output[len(_READY) :] if tickets is None else bytes(tickets.lines)
    return {
        "ending": ending,
        "exit_code": os.waitstatus_to_exitcode(status),
        "cpu_s": max(usage.ru_utime + usage.ru_stime, seen_s, count_s()) + time.process_time(),
        "sees_sleep": clock is not None and not clock.is_blind,
        "starved": clock is None or clock.is_starved,
        "output": output.decode("latin-1"),
    }


def _collect(
    reader: int,
    channel: socket.socket,
    wall_s: float,
    most: int = MAX_RESULT_BYTES,
    *,
    overgrown: Callable[[], bool] | None,
    clock: SleepClock | None = None,
    tickets: framing.TicketPipe | None = None,
) -> tuple[bytes, str]:
    """Read to the end, but for at most `wall_s` once all layers are on: the time before is ours."""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(channel.fileno(), 0)  # hang-up only: the trusted side has given up
    output = bytearray()
    ready, deadline = False, time.monotonic() + SETUP_LIMIT_S
    while True:
        left_s = deadline - time.monotonic()
        wait_s = left_s if overgrown is None else min(left_s, WATCH_S)
        wait_s = wait_s if clock is None else min(wait_s, clock.due_s)
        events = dict(poller.poll(wait_s * 1000)) if left_s > 0 else {}
        chunk = os.read(reader, 2**16) if reader in events else b""
        is_over = reader in events and not chunk
        output += chunk
        if not ready and output.startswith(_READY):
            ready, deadline = True, time.monotonic() + wall_s
            chunk = bytes(output[len(_READY) :])
        if ready and tickets is not None and not tickets.take(chunk):
            return bytes(output), "forged"
        if ready and clock is not None:
            if clock.is_passed():
                return bytes(output), "asleep"
            if clock.computed_s > clock.limit_s:  # all of its processes together
                return bytes(output), "timeout"
        if len(output) > most:
            return bytes(output[:most]), "overflow"
        if output and overgrown is not None and overgrown():  # before _READY nothing can be theirs
            return bytes(output), "overflow"
        if not events and wait_s == left_s:
            return bytes(output), "timeout"
        if channel.fileno() in events:
            return bytes(output), "abandoned"
        if is_over:
            return bytes(output), "exited"


def _candidate(run: _Run, pipes: list[int]) -> None:
    """Apply all layers to this process and run the submitted files; never returns."""
    writer = framing.RESULTS_FD
    try:
        try:
            cgroups.join_group(run.config["groups"], run.group)
            _keep_only(pipes)
            _confine(run)
            # a full disk is not its doing
            write_files(run.request.get("files", {}), run.scratch / "work")
            os.write(writer, _READY)
        except OSError as error:
            os.write(writer, str(error).encode())
            os._exit(1)
        _forget_house()
        RUNNERS[run.request["kind"]](run.request, run.scratch, writer)
    except BaseException:  # whatever the candidate raised ends here, in its own process
        os._exit(1)
    os._exit(0)


def _keep_only(pipes: list[int]) -> None:
    """Leave /dev/null as 0, 1, 2 and the pipes from 3 on; close every other descriptor."""
    null = os.open("/dev/null", os.O_RDWR)
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE_KEPT) for fd in pipes]
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for place, fd in enumerate(kept, framing.RESULTS_FD):
        os.dup2(fd, place, inheritable=False)
    os.closerange(framing.RESULTS_FD + len(kept), 2**16)


def _confine(run: _Run) -> None:
    config, scratch = run.config, run.scratch
    private = bool(config["namespaces"])
    # Of other user ids the limit counts more than this run, and for uid 0 it is ignored.
    counts_apply = run.uid is not None or (private and os.getuid() > 0)
    grouped = bool(config["groups"])
    new_processes = private and (counts_apply or grouped) and config["preload"] == "pytest"
    max_processes = isolation.MAX_PROCESSES if grouped else isolation.MAX_PROCESSES_UNGROUPED
    # On a disk, what it writes is watched, for which the guard must be let look at it.
    isolation.drop_privileges(run.uid, is_watched=not private)
    isolation.die_with_parent()
    isolation.set_limits(
        cpu_s=int(run.request.get("cpu_s", run.request["wall_s"])) + 1,
        memory_bytes=int(config["memory_bytes"]),
        max_processes=max_processes if counts_apply else None,
        on_disk=not private,
    )
    for name in ("work", "tmp"):
        (scratch / name).mkdir()
    if config["landlock"]:
        readable, listable = config["visible"]
        isolation.restrict_files(readable=readable, listable=listable, writable=[str(scratch)])
    rules = FilterRules(new_processes=new_processes, private_pids=private, private_root=private)
    isolation.install_filter(assemble(rules, own_pid=os.getpid()))
    os.environ.clear()
    os.environ.update({"HOME": f"{scratch}/tmp", "TMPDIR": f"{scratch}/tmp", "LC_ALL": "C.UTF-8"})
    os.environ.update({"USER": "user", "LOGNAME": "user"})  # whose name is in temporary paths
    tempfile.tempdir = None
    os.chdir(scratch / "work")


def _forget_house() -> None:
    """Take this project's modules out of sight, so that a submitted `envs` can be imported."""
    main_module = ModuleType("__main__")
    for name in [name for name in sys.modules if name.partition(".")[0] == "envs"]:
        del sys.modules[name]
    sys.modules["__main__"] = main_module
    sys.argv = ["candidate"]
    for kind in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(kind, signal.SIG_DFL)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
