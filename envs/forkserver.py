"""The trusted side of the fork-server: one long-lived preloaded process, one fork of it per run.

    with ForkServer(preload="io") as server:
        report = server.run({"kind": "io", "files": files, "calls": calls}, wall_s=5.0)

A server that fails is replaced and the run tried once more in the fresh one; then the failure is
the infrastructure's, never the candidate's. The process is started by exec, so it inherits no
thread, file or secret of the trainer.
"""

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from envs.errors import InfrastructureError
from envs.interpreter import Interpreter, own_interpreter
from envs.sandbox import Layers, Preload, ServerProcess, probe

Ending = Literal["exited", "timeout", "overflow"]

STALLED_SHARE = 0.25  # of the wall limit spent computing, below which a timeout is tried again


@dataclass(frozen=True)
class RunReport:
    """What came out of one run.

    Attributes:
        ending: It ended by itself (a crash included), or was killed: too slow, too much output.
        output: What the candidate's process wrote to its pipe; nothing in it is to be trusted.
        cpu_s: CPU seconds of the candidate's process and its guard, as the kernel counted them.
    """

    ending: Ending
    output: str
    cpu_s: float


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
        self.interpreter = interpreter or own_interpreter()
        self._lock = threading.Lock()
        self._process: ServerProcess | None = None
        self._closed = False

    @property
    def level(self) -> str:
        """Name of the sandbox level, for the record."""
        return self._layers.level

    def run(self, request: dict[str, Any], *, wall_s: float) -> RunReport:
        """Run `request` (see `envs/candidate.py`) for at most `wall_s` seconds of wall clock.

        A run that was stopped by the clock while it had hardly computed is repeated once: either
        it slept, and will again, or the machine was too busy to judge it by.

        Raises:
            InfrastructureError: It failed twice, the second time in a fresh server.
        """
        report = self._run_once(request, wall_s=wall_s)
        if report.ending == "timeout" and report.cpu_s < STALLED_SHARE * wall_s:
            report = self._run_once(request, wall_s=wall_s)
        return report

    def close(self) -> None:
        """Stop the process and remove its folder."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.close()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run_once(self, request: dict[str, Any], *, wall_s: float) -> RunReport:
        process = self._current(failed=None)
        try:
            report = process.run(request, wall_s=wall_s)
        except InfrastructureError:
            report = self._current(failed=process).run(request, wall_s=wall_s)
        return RunReport(report["ending"], report["output"], report["cpu_s"])

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
