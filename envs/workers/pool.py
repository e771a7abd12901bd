"""Worker processes for tools and gradings, which the trainer can kill: threads cannot be.

    with WorkerPool(partial(open_workbench, store, ...), num_workers=4) as pool:
        done = await pool.use_tools(task_id, changes, calls, deadline_s=600)

Every call of a model works on text that the model wrote, and every grading on code: any of them may
hang, crash the interpreter or eat its memory. A worker that does not answer in time is killed; one
that dies is a failure of the machine for what it was doing, and for nothing else; another takes its
place. Each has a socket of its own to the trainer, so that none can hold up the others, and the
trainer has no thread for them: replies are read by the event loop that asked.

Workers start by exec when they are first needed, so they inherit no thread, file or memory of the
trainer and load no torch. They end with the trainer, even one that is killed: the kernel sees to
it. What a killed worker had started sees its sockets closed, and ends by itself.

Not covered: a worker is started by the thread that plays; were that thread to end before
the pool, the kernel would take the worker for orphaned.
"""

import asyncio
import contextlib
import json
import os
import pickle
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self, cast

from envs.errors import InfrastructureError, UserError
from envs.records import Outcome, ToolCall
from envs.sandbox.framing import LENGTH
from envs.sandbox.kernel import cgroups
from envs.tools import TurnDone
from envs.workers.workbench import MAX_SERVERS, Workbench
from envs.workspace import Changes

OpenWorkbench = Callable[[], AbstractContextManager[Workbench]]

START_LIMIT_S = 60.0  # for imports and the task set on a busy machine; 0.5 s on an idle one
END_LIMIT_S = 10.0  # for the fork-servers of all workers to clean up
_GRACE_S = 1.0  # to read an answer that came in time, while the event loop was busy
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from envs.workers.child_main import main
main(socket_fd=int(sys.argv[2]), parent=int(sys.argv[3]))
"""


class WorkerPool:
    """A `Bench` of worker processes.

    Args:
        open_bench: Opens the workbench of a worker; is pickled.
        num_workers: Most processes at once.
        near: What of a task is slow to get ready, such as its fork-server: a worker that has had it
            is preferred.
    """

    def __init__(
        self,
        open_bench: OpenWorkbench,
        *,
        num_workers: int,
        near: Callable[[str], Hashable] = lambda task_id: None,
    ) -> None:
        self._opener = pickle.dumps(open_bench)
        self._num_workers, self._near = num_workers, near
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        """Carry out the calls of one turn; see `Bench`."""
        arguments = (task_id, changes, tuple(calls))
        return cast(TurnDone, await self._ask("use_tools", *arguments, deadline_s=deadline_s))

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        """Grade submitted files; see `Bench`."""
        return cast(Outcome, await self._ask("grade", task_id, files, deadline_s=deadline_s))

    def close(self) -> None:
        """End all workers and what they have started; what they do right now is lost."""
        for worker in self._busy:
            worker.kill()
        for worker in self._idle:
            worker.dismiss()
        deadline = time.monotonic() + END_LIMIT_S
        for worker in self._idle:
            worker.bury(deadline=deadline)
        self._idle.clear()
        self._busy.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _ask(self, name: str, task_id: str, *arguments: Any, deadline_s: float) -> Any:
        request = pickle.dumps((name, (task_id, *arguments)))
        worker = await self._hire(self._near(task_id))
        try:
            answer = await worker.answer(request, deadline_s=deadline_s)
        except BaseException as error:
            worker.kill()  # it may be anywhere, and so may be what is left in its socket
            if isinstance(error, OSError | EOFError) and not isinstance(error, TimeoutError):
                text = f"a worker process died ({worker.ending()}): {error}"
                raise InfrastructureError(text, part="worker") from error
            raise
        else:
            self._idle.append(worker)
        finally:
            self._busy.discard(worker)
            self._wake()
        return _unpack(answer)

    async def _hire(self, near: Hashable) -> "_Worker":
        while len(self._busy) >= self._num_workers:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._wake()  # it was this one's turn: the next one's now
                raise
        try:
            worker = self._find(near)
        except OSError as error:
            self._wake()
            text = f"a worker process does not start: {error}"
            raise InfrastructureError(text, part="worker") from error
        worker.serves(near)
        self._busy.add(worker)
        return worker

    def _find(self, near: Hashable) -> "_Worker":
        self._idle = [worker for worker in self._idle if worker.lives()]
        warm = [worker for worker in self._idle if near in worker.recent]
        if not self._idle:
            return _Worker(self._opener)
        worker = (warm or self._idle)[-1]
        self._idle.remove(worker)
        return worker

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                return turn.set_result(None)


class _Worker:
    """One worker process and the trainer's end of its socket."""

    def __init__(self, opener: bytes) -> None:
        self.recent: deque[Hashable] = deque(maxlen=MAX_SERVERS)
        self._opener: bytes | None = opener
        self._received = bytearray()
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                arguments = [json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())]
                self._process = subprocess.Popen(
                    [sys.executable, "-s", "-c", _BOOT, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # a Ctrl-C at the terminal is the trainer's to handle
                )
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def serves(self, near: Hashable) -> None:
        """Note what it has ready from now on; the longest unused goes first."""
        if near in self.recent:
            self.recent.remove(near)
        self.recent.append(near)

    def lives(self) -> bool:
        """Tell whether it still runs."""
        if self._process.poll() is None:
            return True
        self.kill()
        return False

    async def answer(self, request: bytes, *, deadline_s: float) -> Any:
        """Send a request and wait for the answer; the deadline counts from when it is ready.

        Raises:
            TimeoutError: There is none in time.
            OSError or EOFError: It died.
        """
        if self._opener is not None:
            opener, self._opener = self._opener, None
            try:
                await self._exchange(opener, START_LIMIT_S)
            except TimeoutError as error:
                raise EOFError("it is not ready in time") from error
        return await self._exchange(request, deadline_s)

    async def _exchange(self, request: bytes, limit_s: float) -> Any:
        try:
            async with asyncio.timeout(limit_s):
                frame = LENGTH.pack(len(request)) + request
                await asyncio.get_running_loop().sock_sendall(self._socket, frame)
                return await self._receive()
        except TimeoutError:
            if not select.select([self._socket], [], [], 0)[0]:
                raise
            async with asyncio.timeout(_GRACE_S):
                return await self._receive()

    async def _receive(self) -> Any:
        """Return the next frame; what came of it stays if this is cancelled."""
        while True:
            if len(self._received) >= LENGTH.size:
                (length,) = LENGTH.unpack_from(self._received)
                if len(self._received) >= LENGTH.size + length:
                    frame = bytes(self._received[LENGTH.size :])
                    self._received.clear()
                    return pickle.loads(frame)
            await self._readable()
            chunk = self._socket.recv(2**20)
            if not chunk:
                raise EOFError("the worker closed its socket")
            self._received += chunk

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._socket, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._socket)

    def ending(self) -> str:
        """Say how the process ended."""
        return f"exit status {self._process.returncode}"

    def dismiss(self) -> None:
        """Close its socket: it closes its workbench and ends."""
        self._socket.close()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self.bury(deadline=time.monotonic() + END_LIMIT_S)

    def bury(self, *, deadline: float) -> None:
        """Wait until it has ended, kill it if it does not, and remove what a second runner left."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel holds it: a bad disk
                self._process.wait(END_LIMIT_S)
        self._socket.close()
        with contextlib.suppress(OSError):
            cgroups.remove_groups_of(self._process.pid)


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _unpack(answer: Any) -> Any:
    """Return what a worker did, or raise as it did."""
    kind, value = answer
    if kind == "machine":
        text, part = value
        raise InfrastructureError(text, part=part)
    if kind == "user":
        what, got, remedy = value
        raise UserError(what, got=got, remedy=remedy)
    if kind == "bug":
        raise RuntimeError(f"in a worker process:\n{value}")
    return value
