"""The worker's own process: opens its workbench, then does what it is asked, one thing at a time.

Started by `envs/workers/pool.py`, with which it exchanges frames of pickle: 8 bytes of length, then
what is asked, (name, arguments), and what came of it, (kind, value). Both ends are this project's
own; nothing that a candidate wrote is ever unpickled.
"""

import os
import pickle
import signal
import socket
import struct
import traceback
from typing import Any

from envs.errors import InfrastructureError, UserError
from envs.sandbox import isolation
from envs.workers.workbench import Workbench


def main(*, socket_fd: int, parent: int) -> None:
    """Serve until the other end is closed."""
    isolation.die_with_parent()
    if os.getppid() != parent:
        return  # it died before it could be watched
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=socket_fd) as channel:
        opener = _receive(channel)
        if opener is None:
            return
        with pickle.loads(opener)() as bench:
            _send(channel, ("ready", None))
            while (request := _receive(channel)) is not None:
                name, arguments = pickle.loads(request)
                _send(channel, _answer(bench, name, arguments))


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


def _send(channel: socket.socket, message: tuple[str, Any]) -> None:
    frame = pickle.dumps(message)
    channel.sendall(struct.pack(">Q", len(frame)) + frame)


def _receive(channel: socket.socket) -> bytes | None:
    """Return the next frame, None once the other end is closed."""
    head = _exactly(channel, 8)
    return None if head is None else _exactly(channel, struct.unpack(">Q", head)[0])


def _exactly(channel: socket.socket, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        chunk = channel.recv(min(length - len(data), 2**20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
