"""The fork-servers of one process: one for each interpreter and preload, started when first asked.

    with ServerPool(cache_dir) as servers:
        report = servers.get("pytest", project.runtime).run_limited(request, limit_s=10.0)

Graders and task builders share a pool, so a suite has one fork-server, whoever runs it.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from envs.records import Runtime
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter, find_interpreter
from envs.sandbox.levels import Layers, Preload


class ServerPool:
    """Fork-servers by what they preload and run with; thread-safe.

    Args:
        cache_dir: Where extra wheels of suites are installed.
        python: The user's interpreter, for suites that need one.
        layers: Of the sandbox; None for the best ones that this machine has.
        interpreters: Those found before; None looks for each when it is needed.
        max_servers: Most fork-servers that live at once, the last used ones; only where there is
            one run at a time. None for no limit.
    """

    def __init__(
        self,
        cache_dir: Path,
        *,
        python: str = "",
        layers: Layers | None = None,
        interpreters: Mapping[Runtime, Interpreter] | None = None,
        max_servers: int | None = None,
    ) -> None:
        self._cache_dir, self._python = cache_dir, python
        self._layers, self._interpreters = layers, interpreters
        self._max_servers, self._lock = max_servers, threading.Lock()
        self._servers: dict[tuple[Preload, Runtime], ForkServer] = {}  # the last used at the end

    def get(self, preload: Preload, runtime: Runtime) -> ForkServer:
        """Return the one fork-server of its kind.

        Raises:
            UserError: There is no sandbox, the Python does not start, or a wheel cannot be had.
        """
        with self._lock:
            server = self._servers.pop((preload, runtime), None)
            if server is None:
                server = ForkServer(
                    preload=preload, layers=self._layers, interpreter=self._interpreter(runtime)
                )
            self._servers[preload, runtime] = server
            if self._max_servers and len(self._servers) > self._max_servers:
                self._servers.pop(next(iter(self._servers))).close()
            return server

    def values(self) -> tuple[ForkServer, ...]:
        """Return the fork-servers that were asked for, the last used one at the end."""
        return tuple(self._servers.values())

    def close(self) -> None:
        """Stop all of them."""
        for server in self._servers.values():
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _interpreter(self, runtime: Runtime) -> Interpreter:
        if self._interpreters is not None:
            return self._interpreters[runtime]
        return find_interpreter(runtime, python=self._python, cache_dir=self._cache_dir)
