"""The worker's own process: opens its workbench, then serves one request at a time.

Started by `envs/workers/pool.py`, with which it exchanges frames of pickle: a request, (name,
arguments), and what came of it, (kind, value). Both ends are this project's own; nothing that a
candidate wrote is ever unpickled. Tests: tests/envs/workers/test_pool.py.
"""

import contextlib
import os
import pickle
import signal
import socket
import traceback
from typing import Any

from envs.errors import InfrastructureError, UserError
from envs.sandbox.framing import receive_bytes, send_bytes
from envs.sandbox.kernel import isolation
from envs.workers.workbench import Workbench


def main(*, socket_fd: int, parent: int) -> None:
    """Serve until the other end is closed."""
    isolation.die_with_parent()
    if os.getppid() != parent:
        return  # it died before it could be watched
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (
        socket.socket(fileno=socket_fd) as channel,
        contextlib.suppress(EOFError),
        pickle.loads(receive_bytes(channel))() as bench,
    ):
        send_bytes(channel, pickle.dumps(("ready", None)))
        while True:
            name, arguments = pickle.loads(receive_bytes(channel))
            send_bytes(channel, pickle.dumps(_answer(bench, name, arguments)))


def _answer(bench: Workbench, name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "done", getattr(bench, name)(*arguments)
    except InfrastructureError as error:
        return "machine", (str(error), error.part or _PARTS[name])
    except UserError as error:
        return "user", (error.what, error.got, error.remedy)
    except (OSError, MemoryError) as error:  # what a candidate does to itself is caught far below
        return "machine", (f"{type(error).__name__}: {error}", _PARTS[name])
    except Exception:
        return "bug", traceback.format_exc()


_PARTS = {"use_tools": "tool", "grade": "grading"}
