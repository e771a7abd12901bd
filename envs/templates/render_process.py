"""Renders chat templates in a process of their own: what a stranger's template does is bounded.

    text = shared_process().render(template, {"messages": [...], "add_generation_prompt": True})

One process serves all templates, one request after the other; it starts with the first (0.1 s) and
is replaced when a template ended it. A rendering takes what it took, and 0.1 ms for the way.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import InfrastructureError, UserError
from envs.templates.render_child import LIMIT_S

REMEDY = "set model.chat_template to chatml or to the path of another"
_MAX_TEMPLATE = 2**20  # characters; of those published, the longest has 30,000
_BOOT = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")
"""
_CHILD = Path(__file__).with_name("render_child.py")


class RenderError(Exception):
    """A template raised: what it said."""


class TemplateLimitError(UserError):
    """A template does not end, or takes or writes too much: another way of asking does not help."""

    def __init__(self, got: str) -> None:
        super().__init__("the chat template wants more than a template may", got=got, remedy=REMEDY)


@dataclass(frozen=True)
class TemplateFacts:
    """What a template takes.

    Attributes:
        names: Variables from outside.
        date_formats: In which it asks for today's date.
        unclear: The line in which it asks in a format that cannot be known; 0 without.
    """

    names: frozenset[str]
    date_formats: tuple[str, ...]
    unclear: int


class RenderProcess:
    """The process; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """Return what a template writes.

        Raises:
            RenderError: It raised.
            TemplateLimitError: It does not end, or takes or writes too much.
        """
        return str(self._ask(template, variables=dict(variables))["text"])

    def describe(self, template: str) -> TemplateFacts:
        """Return what a template takes.

        Raises:
            RenderError: It is no Jinja.
            TemplateLimitError: It is too long, or cannot be read within limits.
        """
        found = self._ask(template)
        return TemplateFacts(
            frozenset(found["names"]), tuple(found["date_formats"]), found["unclear"]
        )

    def _ask(self, template: str, **more: Any) -> dict[str, Any]:
        if len(template) > _MAX_TEMPLATE:
            raise TemplateLimitError(f"it has {len(template):,} characters")
        request = json.dumps({"template": template, **more}, default=str).encode("ascii")
        with self._lock:
            answer = self._exchange(request)
        if "error" in answer:
            raise RenderError(answer["error"])
        if "refused" in answer:
            raise TemplateLimitError(answer["refused"])
        return answer

    def _exchange(self, request: bytes) -> dict[str, Any]:
        if self._process is None or self._owner != os.getpid():  # a fork must not share its pipes
            self._process, self._owner = _start(), os.getpid()
            weakref.finalize(self, _end, self._process, self._owner)
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(request + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:  # Ctrl-C: its answer would be taken for that of the next request
            process.kill()
            self._process = None
            raise
        if line.endswith(b"\n"):
            return dict(json.loads(line))
        self._process = None
        status = process.wait()
        if status == -signal.SIGPROF:
            raise TemplateLimitError(f"it computes for more than {LIMIT_S:g} s")
        if status < 0:
            raise TemplateLimitError(
                f"it ends the process that renders it ({signal.Signals(-status).name})"
            )
        raise InfrastructureError(f"the process that renders chat templates ended with {status}")


@functools.cache
def shared_process() -> RenderProcess:
    """Return the process that this one renders in."""
    return RenderProcess()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _BOOT, json.dumps(sys.path), str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End a process, unless it is that of the one from which this was forked."""
    if os.getpid() != owner:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what was not sent yet
            if pipe is not None:
                pipe.close()
