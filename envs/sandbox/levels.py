"""Which sandbox this machine offers, found by running a self-test in it, and the lowest allowed.

Levels, best first: `namespaces+landlock+seccomp`, `namespaces+seccomp` (a kernel without
Landlock) and `landlock+seccomp` (no privileges: a default container, where `unshare` and `mount`
are denied). Each has rlimits, no_new_privs, a wall clock and the killing of everything a run
started, and at any level control groups and user ids of their own are used where the machine gives
them. Below the lowest untrusted code is refused.

    python -c "from envs.sandbox.levels import probe; print(probe())"

Not covered: kernel bugs, side channels; without control groups the memory of a run with several
processes is bounded only by the number of them; at the lowest level also reading the names and
sizes of foreign files, and no processes can be started there, so suites that need them fail.
"""

import contextlib
import functools
import itertools
import json
import os
import socket
import subprocess
import tempfile
import time
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from envs.errors import InfrastructureError, UserError
from envs.sandbox import framing
from envs.sandbox.interpreter import Interpreter, find_own_interpreter
from envs.sandbox.kernel import cgroups, isolation, seccomp
from envs.sandbox.scratch_dir import remove_tree

Preload = Literal["io", "pytest"]

START_LIMIT_S = 60.0  # for preloading on a busy machine; takes 0.1 to 0.5 s on an idle one
SELFTEST_LIMIT_S = 20.0
# For the guard to kill, clean up and report after a run's own limit. One that died is noticed at
# once, so this only bounds one that waits for a core: 3.4 s beside 80 busy processes on 2 cores.
REPORT_GRACE_S = 60.0
END_LIMIT_S = 2.0  # for runs that are under way when a server is closed, then for their files
MEMORY_BYTES: dict[str, int] = {"io": 512 * 2**20, "pytest": 2 * 2**30}
_CHILD = Path(__file__).with_name("child_main.py")
_REMEDY = (
    "use Linux 5.13 or newer with Landlock (boot option lsm=landlock,...) and seccomp, on x86_64 "
    "or aarch64, or run as root in a container that allows unshare and mount"
)


@dataclass(frozen=True)
class LayerFacts:
    """What a layer gives, what a run could do without it, and what adds it."""

    gives: str
    without: str
    remedy: str


LAYER_FACTS = {
    "namespaces": LayerFacts(
        "files, processes and a network of each run's own, on a disk of 64 MB",
        "runs see process ids and how full the disk is, fill 256 MB of it, and may start no "
        "process, so that suites which do fail",
        "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0), or in Docker --security-opt "
        "seccomp=unconfined --cap-add SYS_ADMIN",
    ),
    "landlock": LayerFacts(
        "of files, only a run's own and the interpreter's can be opened",
        "a way out of the private root opens all that the user of a run may read",
        "Linux 5.13 or newer with the boot option lsm=landlock,...",
    ),
    "seccomp": LayerFacts(
        "only the system calls on a list: no sockets, locks, watches, keys, new namespaces",
        "untrusted code is refused",
        "a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64",
    ),
    "rlimits": LayerFacts(
        "each process has bounds of memory, time and files",
        "untrusted code is refused",
        "see seccomp",
    ),
    "drop_uid": LayerFacts(
        "each run is a user of its own, that owns nothing",
        "runs are you: what gets past the other layers reaches your files and processes",
        "run as root, for a user id of its own for each run",
    ),
    "groups": LayerFacts(
        "bounds of memory, processes and computing, and a fair share of the cores where the cpu "
        "controller is to be had, for all processes of a run together",
        "a run of many processes slows down others; an ordinary user's are counted over all runs "
        "(RLIMIT_NPROC: 8), so that one can use up another's, which then fails",
        "run as root with a writable /sys/fs/cgroup, or under `systemd-run --user --scope "
        "-p Delegate=yes`",
    ),
}
LEVELS = {
    "namespaces+landlock+seccomp": "a run sees files, processes and a network of its own; other "
    "files are kept from it by two layers",
    "namespaces+seccomp": "the same; other files are kept from it by one layer, the private root",
    "landlock+seccomp": "one process beside yours, on a disk that others use, which can open its "
    "own files only",
}  # best first


@dataclass(frozen=True)
class Layers:
    """Which layers a server uses.

    Attributes:
        namespaces: Private mount, network, ipc, uts and pid namespaces and a private root.
        landlock: File access is limited to the run's own folder and the interpreter.
        drop_uid: Each run gets an unprivileged user id of its own (needs root).
        groups: Each run has a control group that bounds memory and processes of it all.
    """

    namespaces: bool
    landlock: bool
    drop_uid: bool
    groups: bool = False

    @property
    def level(self) -> str:
        """Name of the level, recorded with every outcome."""
        names = [("namespaces", self.namespaces), ("landlock", self.landlock), ("seccomp", True)]
        return "+".join(name for name, present in names if present)


@dataclass(frozen=True)
class SandboxProbe:
    """What the machine offers.

    Attributes:
        found: The layers to start servers with, or None.
        reasons: Why better levels were passed over, one line each.
    """

    found: Layers | None
    reasons: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """The level used, or 'none' if untrusted code is refused."""
        return self.found.level if self.found else "none"

    @property
    def layers(self) -> dict[str, bool]:
        """Every layer by name, and whether it is in use."""
        used = self.found or Layers(namespaces=False, landlock=False, drop_uid=False)
        return {
            **asdict(used),
            "seccomp": self.found is not None,
            "rlimits": self.found is not None,
        }

    @property
    def remedy(self) -> str:
        """What to change, '' at the best level."""
        return "" if self.layers["namespaces"] and self.layers["landlock"] else _REMEDY

    def require(self) -> Layers:
        """Return the layers to use.

        Raises:
            UserError: Not even the lowest level is to be had.
        """
        if self.found is None:
            got = "; ".join(self.reasons)[-400:]
            raise UserError("no sandbox for untrusted code", got=got, remedy=_REMEDY)
        return self.found


@functools.cache
def probe() -> SandboxProbe:
    """Try the levels from the best one down, each in a server of its own, and keep the first."""
    reasons: list[str] = []
    for layers in _candidates():
        reason = _selftest(layers)
        if reason is None:
            return SandboxProbe(layers, tuple(reasons))
        reasons.append(f"{layers}: {reason}")
    return SandboxProbe(None, tuple(reasons))


class ServerProcess:
    """One running fork-server process and the trusted end of its control socket."""

    def __init__(
        self,
        layers: Layers,
        *,
        preload: Preload,
        hash_seed: int = 0,
        interpreter: Interpreter | None = None,
    ) -> None:
        """Start the process and wait until it is ready.

        Raises:
            InfrastructureError: It did not become ready; the message ends with what it said last.
        """
        self.layers = layers
        with contextlib.ExitStack() as undo:
            try:
                config = _server_config(layers, preload, interpreter or find_own_interpreter())
                self._start(config, hash_seed, undo)
            except OSError as error:  # a full disk, no descriptor, no memory for a process
                raise InfrastructureError(f"sandbox server did not start: {error}") from error
            undo.pop_all()
        log, place = self.scratch / "server.log", (self._process, self.control, self.scratch)
        self.close = weakref.finalize(self, _end, os.getpid(), *place)
        try:
            framing.receive_frame(self.control, deadline=time.monotonic() + START_LIMIT_S)
        except (OSError, EOFError, ValueError) as error:
            said = log.read_text("utf-8", "replace").strip()[-500:]
            self.close()
            raise InfrastructureError(f"sandbox server did not start: {said or error}") from error
        self.control.settimeout(START_LIMIT_S)

    def _start(self, config: dict[str, Any], hash_seed: int, undo: contextlib.ExitStack) -> None:
        # No descriptor may be left, so undoing takes none: the folder holds the log alone.
        self.scratch = Path(tempfile.mkdtemp(prefix="tightrope-sandbox-"))
        undo.callback(self.scratch.rmdir)
        undo.callback((self.scratch / "server.log").unlink, missing_ok=True)
        self.scratch.chmod(0o711)  # runs with a user id of their own pass through, but see nothing
        self.control, theirs = socket.socketpair()
        undo.callback(self.control.close)
        with theirs, (self.scratch / "server.log").open("wb") as errors:
            config |= {"control_fd": theirs.fileno(), "scratch": str(self.scratch)}
            self._process = subprocess.Popen(
                [config["executable"], "-s", "-S", "-P", "-B", str(_CHILD), json.dumps(config)],
                env={"PYTHONHASHSEED": str(hash_seed), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def run(self, request: dict[str, Any], *, wall_s: float) -> dict[str, Any]:
        """Have one request run in a fork and return the guard's report; safe from any thread.

        Raises:
            InfrastructureError: The server or the guard failed, or a layer could not be applied.
        """
        try:
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    socket.send_fds(self.control, [b"r"], [theirs.fileno()])
                ours.settimeout(REPORT_GRACE_S)
                framing.send_frame(ours, {**request, "wall_s": wall_s})
                deadline = time.monotonic() + wall_s + REPORT_GRACE_S
                report = framing.receive_frame(ours, deadline=deadline)
        except (OSError, EOFError, ValueError) as error:
            raise InfrastructureError(f"sandbox run: {type(error).__name__} {error}") from error
        if "setup_error" in report:
            raise InfrastructureError(f"sandbox set-up: {report['setup_error']}")
        return report


def _server_config(layers: Layers, preload: Preload, python: Interpreter) -> dict[str, Any]:
    """Return what `envs/sandbox/child_main.py` reads, but for what is of its start."""
    with_packages = preload == "pytest"
    groups = [str(base) for base in cgroups.find_bases()] if layers.groups else []
    if layers.groups and not groups:  # never with less than was found at the start
        raise InfrastructureError("sandbox server did not start: there are no control groups")
    return {
        **asdict(layers),
        "groups": groups,
        "preload": preload,
        "executable": python.executable,
        "site": python.site if with_packages else (),
        "readable": [*python.prefixes, *(python.packages if with_packages else ())],
        "hidden": python.hidden,
        "memory_bytes": MEMORY_BYTES[preload],
    }


def _end(
    owner: int, process: subprocess.Popen[bytes], control: socket.socket, scratch: Path
) -> None:
    if os.getpid() != owner:
        return  # a fork of the trusted side ends: the server is not its own
    control.close()  # the server ends when its control socket does, and cleans up
    try:
        process.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    cgroups.remove_groups_of(process.pid)
    deadline = time.monotonic() + END_LIMIT_S
    while scratch.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # runs of a server that was killed may still be dying
            remove_tree(scratch)


def _candidates() -> list[Layers]:
    if not seccomp.is_supported():
        return []
    landlock = isolation.landlock_abi() > 0
    drops = (True, False) if os.getuid() == 0 else (False,)
    spaces = (True, False) if landlock else (True,)
    groups = (True, False) if cgroups.find_bases() else (False,)
    return [
        Layers(space, landlock, drop, group)
        for space, drop, group in itertools.product(spaces, drops, groups)
    ]


def _selftest(layers: Layers) -> str | None:
    """Return why `layers` do not work here, or None."""
    try:
        server = ServerProcess(layers, preload="io")
    except InfrastructureError as error:
        return str(error)
    with contextlib.closing(server):
        secret = server.scratch / "secret"
        secret.write_bytes(b"secret")
        secret.chmod(0o644)
        request = {"kind": "selftest", "secret": str(secret)}
        try:
            report = server.run(request, wall_s=SELFTEST_LIMIT_S)
            wrong = json.loads(report["output"])["wrong"]
        except (InfrastructureError, ValueError, KeyError) as error:
            return f"self-test: {error}"
    return ", ".join(wrong) or None
