"""A port for a server that is started: nobody listens there, and no other run starts one there.

    with claimed(8100):  # for as long as a server of this process may be there
        ...

vLLM shares its port with whoever asks for it too (SO_REUSEPORT), and takes minutes until it
listens: of two runs with the same port both would start, and each ask the other's servers. So a run
holds a name of the kernel's for each of its ports, which is free again however the run ends.

Not covered: a server that somebody starts by hand in the minutes before ours listens. It is told
by the name of its base (`check_base`), though not in each request.

Tests: tests/train/servers/test_port.py.
"""

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from envs.errors import UserError

RELEASE_LIMIT_S = 15.0  # for servers of a run that has just been killed; their keepers need 10
_LOOK_EVERY_S = 0.5


@contextmanager
def claimed(port: int, *, limit_s: float = RELEASE_LIMIT_S) -> Iterator[None]:
    """Hold a port of 127.0.0.1 on which nobody listens.

    Raises:
        UserError: It is in use and stays so for `limit_s`.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        _bind(claim, f"\0tightrope-vllm-{port}", port, limit_s=limit_s)
        check_free(port, limit_s=limit_s)
        yield


def check_free(port: int, *, limit_s: float = 0.0) -> None:
    """Make sure that nobody listens on a port of 127.0.0.1.

    Raises:
        UserError: Somebody does, and still after `limit_s`.
    """
    with socket.socket() as probe:
        # Connections of a server that has ended, which the kernel keeps for a minute, do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, ("127.0.0.1", port), port, limit_s=limit_s)


def _bind(
    taken: socket.socket, address: str | tuple[str, int], port: int, *, limit_s: float
) -> None:
    until = time.monotonic() + limit_s
    while True:
        try:
            return taken.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        if time.monotonic() > until:
            raise UserError(
                "a vLLM server cannot be started: its port is in use",
                got=f"127.0.0.1:{port}, by another run or another program",
                remedy="set rollouts.port to the first of a row of free ones",
            )
        time.sleep(_LOOK_EVERY_S)
