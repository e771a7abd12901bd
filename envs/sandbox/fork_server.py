"""The trusted side of the fork-server: one long-lived preloaded process, one fork of it per run.

    with ForkServer(preload="io") as server:
        request = {"kind": "io", "files": files, "calls": calls}
        report = server.run_limited(request, limit_s=10.0)

What a run may do is bounded by what it does itself: so many seconds of computing, as many of sleep.
The clock on the wall also counts what the machine does not give it, so it decides nothing about a
candidate; it is the net for a machine that does not serve a run at all.

A server that fails is replaced and the run tried once more in the fresh one; then the failure is
the infrastructure's, never the candidate's. The process is started by exec, so it inherits no
thread, file or secret of the trainer. Tests: tests/envs/sandbox/test_limits.py.
"""

import threading
from dataclasses import dataclass
from typing import Any, Literal, Self

from envs.errors import InfrastructureError
from envs.sandbox.interpreter import Interpreter, find_own_interpreter
from envs.sandbox.levels import Layers, Preload, ServerProcess, probe

Ending = Literal["exited", "timeout", "overflow", "forged"]

# Wall seconds for each second that a run may compute, then once more with twice as many. As much
# was left to gradings when tasks were validated beside 2 to 4 others on 2 cores.
TIMEOUT_FACTOR = 6


@dataclass(frozen=True)
class RunReport:
    """What came out of one run.

    Attributes:
        ending: It ended by itself (a crash included), or was killed: too slow (it computed or slept
            for longer than it may, or the time on the wall is up), too much output, or a line
            without a ticket where each needs one.
        output: What the candidate's process wrote to its pipe; nothing in it is to be trusted.
        cpu_s: CPU seconds of the candidate's process and its guard, as the kernel counted them.
        exit_code: Of the candidate's process; below 0, the signal that ended it.
    """

    ending: Ending
    output: str
    cpu_s: float
    exit_code: int


class ForkServer:
    """Runs submitted files in the sandbox; thread-safe, and several runs may be under way.

    Args:
        preload: What the interpreter has loaded: some standard library, or pytest as well.
        hash_seed: PYTHONHASHSEED of all runs, fixed so that a run repeats.
        layers: Layers to use instead of the best ones that `sandbox.probe` found.
        interpreter: The Python that runs the files, if not the one that runs this project.

    Raises:
        UserError: The machine has no sandbox of the lowest level (`sandbox.probe`).
    """

    def __init__(
        self,
        *,
        preload: Preload,
        hash_seed: int = 0,
        layers: Layers | None = None,
        interpreter: Interpreter | None = None,
    ) -> None:
        self._layers = layers or probe().require()
        self._preload, self._hash_seed = preload, hash_seed
        self.interpreter = interpreter or find_own_interpreter()
        self._lock = threading.Lock()
        self._process: ServerProcess | None = None
        self._twin: ForkServer | None = None
        self._closed = False

    @property
    def level(self) -> str:
        """Name of the sandbox level, for the record."""
        return self._layers.level

    @property
    def twin(self) -> "ForkServer":
        """Another one of its kind, where objects have other addresses; closed with this one."""
        with self._lock:
            if self._twin is None:
                self._twin = ForkServer(
                    preload=self._preload,
                    hash_seed=self._hash_seed,
                    layers=self._layers,
                    interpreter=self.interpreter,
                )
            return self._twin

    def run(self, request: dict[str, Any], *, wall_s: float) -> RunReport:
        """Run `request` (see `envs/sandbox/child_runs.py`) for at most `wall_s` seconds of wall
        clock.

        Raises:
            InfrastructureError: It failed twice, the second time in a fresh server.
        """
        found = self._run_once(request, wall_s=wall_s)
        return _read_report(found, found["ending"])

    def run_limited(self, request: dict[str, Any], *, limit_s: float) -> RunReport:
        """Run `request` for at most `limit_s` seconds of computing and as many of sleep.

        A run that is stopped by the clock on the wall has failed, unless it was seen to want a core
        and to get none: then the machine did not serve it, and it is repeated once with more time.
        Where the kernel does not tell who sleeps, one that is stopped twice counts as asleep, or
        sleeping would be a free retry.

        Raises:
            InfrastructureError: The machine failed twice, or is too busy.
        """
        request = {**request, "cpu_s": limit_s, "idle_s": limit_s}
        for factor in (TIMEOUT_FACTOR, 2 * TIMEOUT_FACTOR):
            found = self._run_once(request, wall_s=factor * limit_s)
            is_spent = found["cpu_s"] >= limit_s
            if found["ending"] != "timeout" or is_spent or not found["starved"]:
                break
        else:
            if found["sees_sleep"]:
                wall_s = factor * limit_s
                raise InfrastructureError(f"the machine is too busy: no end after {wall_s:.0f} s")
        late = found["ending"] in ("timeout", "asleep")
        late |= found["ending"] == "exited" and is_spent  # the kernel ended it
        return _read_report(found, "timeout" if late else found["ending"])

    def close(self) -> None:
        """Stop the process and remove its folder."""
        with self._lock:
            self._closed = True
            if self._twin is not None:
                self._twin.close()
            if self._process is not None:
                self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_once(self, request: dict[str, Any], *, wall_s: float) -> dict[str, Any]:
        process = self._current(failed=None)
        try:
            return process.run(request, wall_s=wall_s)
        except InfrastructureError:
            return self._current(failed=process).run(request, wall_s=wall_s)

    def _current(self, *, failed: ServerProcess | None) -> ServerProcess:
        """Return the running process, a fresh one if the running one is `failed`.

        The failed one is dropped, not closed: other threads may still have runs under way in it,
        and it ends when the last of them lets go.
        """
        with self._lock:
            if self._closed:
                raise InfrastructureError("the fork-server is closed")
            if self._process is None or self._process is failed:
                self._process = ServerProcess(
                    self._layers,
                    preload=self._preload,
                    hash_seed=self._hash_seed,
                    interpreter=self.interpreter,
                )
            return self._process


def _read_report(found: dict[str, Any], ending: Ending) -> RunReport:
    return RunReport(ending, found["output"], found["cpu_s"], found["exit_code"])
