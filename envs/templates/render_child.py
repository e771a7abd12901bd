"""The process in which chat templates are read and rendered; nothing else is in it.

Started by `envs/templates/render_process.py`. It takes a request of JSON on each line of its input
and answers with one: `text`, `names` and the rest, `error` (the template raised), or `refused` (it
wants too much). A template that computes for more than the limit is ended by the kernel, whatever
it does. No file can be opened or written once the first request is read.

The environment is the one in which Transformers renders (`chat_template_utils`), built here from
Jinja alone: importing Transformers takes ten times as long. Limits: POSIX only.
Tests: tests/envs/templates/test_render_process.py, tests/train/models/test_chat_templates.py.
"""

import importlib
import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

Answer = dict[str, Any]

# What Jinja and the codec of its texts import when first used, when no file can be opened any more.
_IMPORTED_LATE = ("html", "jinja2.constants", "jinja2.debug", "pprint", "textwrap", "unicodedata")
LIMIT_S = 2.0  # of computing, for one rendering; those of published templates take under 0.05
_MAX_MEMORY = 2**30  # bytes of addresses
_MAX_TEXT = 2**20  # characters that a template may add to what it is given, each part 8 times


class _Generation(Extension):
    """`{% generation %}` marks what an assistant says; here it writes it."""

    tags = {"generation"}  # noqa: RUF012 (as its base declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _PlainNamespace(Namespace):
    """A namespace that keeps no name with an underscore in front."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *given = args  # so that `namespace(self=...)` works, as in Jinja's
        names = dict(*given, **kwargs)
        for name in names:
            _refuse_private(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace keeps no {name!r}")


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _to_json(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)


def _build_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["dict"] = lambda *args, **kwargs: dict(*args, **kwargs)
    environment.globals["namespace"] = _PlainNamespace
    return environment


_ENVIRONMENT = _build_environment()
_compile = lru_cache(maxsize=16)(_ENVIRONMENT.from_string)


def render(template: str, variables: dict[str, Any], *, num_given: int) -> Answer:
    """Return what a template writes, if it is not far more than it was given."""
    text = _compile(template).render(**variables)
    if len(text) > _MAX_TEXT + 8 * num_given:
        return {"refused": f"it writes {len(text):,} characters"}
    return {"text": text}


def describe(template: str) -> Answer:
    """Return which names a template takes from outside, and in which formats it asks for today.

    `unclear` is the line of a date whose format cannot be known, 0 without.
    """
    tree = _ENVIRONMENT.parse(template)
    formats, understood, unclear = set[str](), set[int](), 0
    for call in tree.find_all(nodes.Call):
        if _is_clock(call.node) and len(call.args) == 1 and isinstance(call.args[0], nodes.Const):
            formats.add(str(call.args[0].value))
            understood.add(id(call.node))
    for test in tree.find_all(nodes.Test):
        if test.name in ("defined", "undefined"):
            understood.add(id(test.node))
    for name in tree.find_all(nodes.Name):
        if _is_clock(name) and id(name) not in understood:
            unclear = unclear or name.lineno
    names = sorted(meta.find_undeclared_variables(tree))
    return {"names": names, "date_formats": sorted(formats), "unclear": unclear}


def _is_clock(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "strftime_now" and node.ctx == "load"


def _answer(line: bytes) -> Answer:
    request = json.loads(line)
    try:
        if "variables" not in request:
            return describe(request["template"])
        return render(request["template"], request["variables"], num_given=len(line))
    except MemoryError:
        return {"refused": f"it takes more than {_MAX_MEMORY // 2**20} MiB"}
    except jinja2.TemplateError as error:
        return {"error": str(error)[:1000]}
    except Exception as error:  # whatever a template can raise is its own
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


def _limit() -> None:
    time.tzset()  # reads a file
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    _ENVIRONMENT.from_string("{{ 'text' }}").render()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    for what, most in (
        (resource.RLIMIT_AS, _MAX_MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (most, most))


def serve(*, read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    """Answer until the input ends."""
    for line in iter(read, b""):
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        answer = json.dumps(_answer(line)).encode("ascii")
        signal.setitimer(signal.ITIMER_PROF, 0)
        write(answer + b"\n")


if __name__ == "__main__":
    _limit()
    source, target = sys.stdin.buffer, sys.stdout.buffer
    serve(read=source.readline, write=lambda data: (target.write(data), target.flush()))
