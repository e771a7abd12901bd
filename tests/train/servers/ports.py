"""Ports that are free right now, for servers that tests start."""

import socket
from contextlib import ExitStack


def free_port(count: int) -> int:
    """Return the first of `count` ports in a row on which nobody listens."""
    while True:
        with ExitStack() as held, socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for number in range(port + 1, port + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except (OSError, OverflowError):
                continue
            return port
