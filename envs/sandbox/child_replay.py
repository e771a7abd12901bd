"""Does recorded calls again on a submitted tree: the candidate's process, without any test.

Nothing here knows what should come out: a line for each sequence says what each operation gave and
what became of its arguments, and the trusted side compares (`envs/grading/recorded_calls.py`).
Beside nodes of plain values (`envs/call_values.py`) results have

    ["v", type, [["name", value], ...], part]   an object, its public attributes, and what it holds
                                        if it is a list, a mapping or a text
    ["g", [...], type]                  what an iterator gave, and what it raised then
    ["e", type]                         an exception that was raised
    ["c", type]                         what is told by its type alone

Standard library only. Tests: tests/envs/projects/test_record_calls.py.
"""

import asyncio
import enum
import itertools
import json
import os
import random
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from envs.call_values import (
    CONTAINERS,
    MAX_NODES,
    PURE_MODULES,
    Node,
    is_text,
    read_value,
    write_plain,
)
from envs.sandbox.child_runs import CallTimeoutError, cpu_limit, write_line

LATER_LIMIT_S = 0.1  # CPU seconds of a sequence, after one hung
MAX_DRAINED = 1_000  # of an iterator
MAX_RESULT_DEPTH = 4  # of objects within objects
MAX_TEXT = 20_000  # characters of the text of an object of the standard library
MAX_CHARS = 100_000  # of what a sequence gave
UNFIT = [[None, "too large, or names a folder of this machine"]]


def run_replay(request: dict[str, Any], scratch: Path, writer: int) -> None:
    """Do sequences of operations and write what each gave.

    Args:
        request: `sequences`, [number, operations] each; `limit_s`, CPU seconds of one; `paths` to
            import from; `environment`.
        scratch: The run's private folder.
        writer: Descriptor of the result pipe.
    """
    work = scratch / "work"
    sys.path[:0] = [str(work / path) for path in request["paths"]]
    os.environ |= request["environment"]
    limit_s, places = request["limit_s"], _list_places(scratch)
    for number, operations in request["sequences"]:
        random.seed(0)
        results: list[Node] = []
        try:
            with cpu_limit(limit_s):
                _do_all(operations, results)
        except CallTimeoutError:
            results, limit_s = [[["e", "too long"], []]], min(limit_s, LATER_LIMIT_S)
        except BaseException as error:  # SystemExit and the like are the candidate's too
            results.append([["e", _name_type(type(error))], []])
        text = json.dumps(results)
        is_fit = len(text) < MAX_CHARS and not any(place in text for place in places)
        write_line(writer, [number, results if is_fit else UNFIT])


def _list_places(scratch: Path) -> list[str]:
    """Return the folders that are others elsewhere, as JSON has them: stack traces name them."""
    ours = Path(__file__).resolve().parents[1]
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return [json.dumps(str(place))[1:-1] for place in (scratch, ours, *libraries)]


def _do_all(operations: list[list[Any]], results: list[Node]) -> None:
    made: dict[int, Any] = {}
    describer = _Describer()
    for number, kind, target, name, arguments, keywords, mode in operations:
        try:
            given, named = [], {}
            on = read_value(target, made)
            given = [read_value(each, made) for each in arguments]
            named = {key: read_value(each, made) for key, each in keywords.items()}
        except CallTimeoutError:
            raise
        except Exception:  # what it needs was not made, and that has been noted
            results.append([None, "not done"])
            continue
        try:
            value = _do(kind, on, name, given, named, mode)
            node, made[number] = describer.describe(value)
        except CallTimeoutError:
            raise
        except (Exception, SystemExit) as error:
            node = ["e", _name_type(type(error))]
        changeable = [each for each in (*given, *named.values()) if type(each) in _CHANGEABLE]
        changeable += [on] if name and kind != "get" and not isinstance(on, _FIXED) else []
        results.append([node, [describer.describe(each)[0] for each in changeable]])


def _do(kind: str, on: Any, name: str, given: list[Any], named: dict[str, Any], mode: str) -> Any:
    if kind == "get":
        return getattr(on, name)
    if kind == "set":
        return setattr(on, name, *given)
    called = (getattr(on, name) if name else on)(*given, **named)
    return asyncio.run(called) if mode == "await" else called


_PARTS: dict[type, Callable[[Any], object]] = {
    int: int.__int__,
    float: float.__float__,
    str: lambda value: str.__getitem__(value, slice(None)),
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


_CHANGEABLE = (list, dict, set, bytearray)
_FIXED = (type, FunctionType, MethodType, ModuleType)


class _Describer:
    """Describes results; `value` of a result that is an iterator has then been drained."""

    def __init__(self) -> None:
        self._left = 0
        self._open: list[int] = []

    def describe(self, value: object) -> tuple[Node, Any]:
        """Return the node of a result, and what stands for it in later operations."""
        self._left, self._open = MAX_NODES, []
        if _is_iterator(value):
            drained, cause = _drain(value)
            node = ["g", [self._describe(each, MAX_RESULT_DEPTH) for each in drained], cause]
            return node, iter(drained)
        return self._describe(value, MAX_RESULT_DEPTH), value

    def _describe(self, value: object, depth: int) -> Node:
        self._left -= 1
        plain = write_plain(value)
        if plain is not None or value is None:
            return plain
        kind = type(value)
        if self._left < 0 or id(value) in self._open or len(self._open) > 40:
            return ["c", _name_type(kind)]
        self._open.append(id(value))
        try:
            if kind in CONTAINERS:
                assert isinstance(value, (list, tuple, set, frozenset))
                items = [self._describe(item, depth) for item in itertools.islice(value, MAX_NODES)]
                is_set = kind in (set, frozenset)
                return [CONTAINERS[kind], sorted(items, key=repr) if is_set else items]
            if kind is dict:
                return ["d", self._pairs(value, depth)]
            return self._describe_object(value, kind, depth)
        finally:
            self._open.pop()

    def _describe_object(self, value: object, kind: type, depth: int) -> Node:
        name = _name_type(kind)
        if isinstance(value, (type, FunctionType, MethodType, ModuleType)) or depth <= 0:
            return ["c", name]
        if isinstance(value, enum.Enum):
            return ["v", name, [["name", write_plain(str(value._name_))]], None]
        if kind.__module__ in PURE_MODULES:
            return ["v", name, [], _text(value)]
        attributes = [
            [key, self._describe(held, depth - 1)]
            for key, held in sorted(_public_attributes(value, kind).items())
        ]
        return ["v", name, attributes, self._describe_part(value, depth - 1)]

    def _describe_part(self, value: Any, depth: int) -> Node:
        """Describe what an object of a class derived from a plain one holds."""
        for base, make in _PARTS.items():
            if isinstance(value, base):
                return self._describe(make(value), depth)
        return ["d", self._pairs(value, depth)] if isinstance(value, dict) else None

    def _pairs(self, value: Any, depth: int) -> list[Node]:
        pairs = itertools.islice(dict.items(value), MAX_NODES)
        return [[self._describe(k, depth), self._describe(v, depth)] for k, v in pairs]


def _public_attributes(value: object, kind: type) -> dict[str, object]:
    try:
        held = dict(object.__getattribute__(value, "__dict__"))
    except (AttributeError, TypeError):
        held = {}
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                held.setdefault(name, object.__getattribute__(value, name))
            except AttributeError:
                continue
    return {
        name: each
        for name, each in held.items()
        if type(name) is str and name[:1] != "_" and is_text(name)
    }


def _is_iterator(value: object) -> bool:
    return hasattr(type(value), "__next__") and hasattr(type(value), "__iter__")


def _drain(value: Any) -> tuple[list[Any], str]:
    drained: list[Any] = []
    try:
        for each in itertools.islice(value, MAX_DRAINED):
            drained.append(each)
    except Exception as error:
        return drained, _name_type(type(error))
    return drained, ""


def _name_type(kind: type) -> str:
    return ascii(f"{kind.__module__}:{kind.__qualname__}"[:200])[1:-1]


def _text(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        return _name_type(type(error))
    return text[:MAX_TEXT].encode("utf-8", "backslashreplace").decode("utf-8")
