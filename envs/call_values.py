"""Arguments of recorded calls as JSON: written down by the recorder, made again by the replay.

    1  "a"  true  null                  themselves, by exact type
    ["i", "0x1f"] ["f", "0.5"]          a large integer, a float
    ["b", "text"] ["u", "edb280"]       bytes as Latin-1, a string that is no UTF-8
    ["l"|"t"|"s"|"z", [...]]            list, tuple, set, frozenset (sets in order of their text)
    ["d", [[key, value], ...]]          dict
    ["h", n, [step, ...]]               what operation n made, or a part of it: "name" or index
    ["r", "module:name.name"]           what stands there
    ["x", maker, arguments, state, items, pairs]    made by a class of the standard library, as
                                        `object.__reduce_ex__` has it
    ["k", code, globals, defaults, cells]           a function that only computes, as `marshal`
    ["m", value, "name"]                a bound method

Results (`envs/sandbox/child_replay.py`) have nodes of their own beside the first five kinds.
Standard library only. Tests: tests/envs/projects/test_record_calls.py.
"""

import base64
import builtins
import dis
import enum
import functools
import io
import marshal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

Node = Any
MAX_NODES = 3_000  # parts of one argument
MAX_TEXT = 20_000  # characters of one text among arguments
MAX_DEPTH = 12
_SMALL = 2**53  # integers beyond are not the same in every reader of JSON
# Of these functions and classes may stand among arguments: they compute and do nothing else.
_PURE_MODULES = """
    builtins _operator _collections _functools _decimal _struct _json abc array ast base64 binascii
    bisect collections collections.abc contextlib copy copyreg dataclasses datetime decimal enum
    fractions functools hashlib heapq html ipaddress itertools json keyword math numbers operator
    pathlib pathlib._local re statistics string struct textwrap types typing unicodedata
    urllib.parse uuid zoneinfo
"""
PURE_MODULES = frozenset(_PURE_MODULES.split())
_IMPURE = {"breakpoint", "compile", "eval", "exec", "exit", "help", "input", "open", "quit"}
_IMPURE |= {"__import__", "print", "globals", "locals", "vars"}
CONTAINERS: Mapping[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z"}
_MADE_BY = {"l": list, "t": tuple, "s": set, "z": frozenset}


class UnwritableError(Exception):
    """The value cannot be written down."""


class Writer:
    """Writes arguments down.

    Args:
        find_made: Returns the operation that made an object, and the steps from it; None if none.
        is_own: Tells whether a module is the project's, by its name.
    """

    def __init__(
        self,
        find_made: Callable[[object], Node | None],
        is_own: Callable[[object], bool],
    ) -> None:
        self._find_made, self._is_own = find_made, is_own
        self._left = 0

    def write(self, value: object) -> Node:
        """Return the node of a value.

        Raises:
            UnwritableError: It has none, or is too large.
        """
        self._left = MAX_NODES
        return self._write(value, MAX_DEPTH)

    def _write(self, value: object, depth: int) -> Node:
        self._left -= 1
        if depth < 0 or self._left < 0:
            raise UnwritableError
        kind = type(value)
        if kind in CONTAINERS:
            assert isinstance(value, (list, tuple, set, frozenset))
            items = [self._write(item, depth - 1) for item in value]
            return [
                CONTAINERS[kind],
                sorted(items, key=repr) if kind in (set, frozenset) else items,
            ]
        if kind is dict:
            assert isinstance(value, dict)
            pairs = value.items()
            return ["d", [[self._write(k, depth - 1), self._write(v, depth - 1)] for k, v in pairs]]
        plain = write_plain(value)
        if plain is not None or value is None:
            if isinstance(value, (str, bytes)) and len(value) > MAX_TEXT:
                raise UnwritableError
            return plain
        made = self._find_made(value)
        return made if made is not None else self._write_object(value, kind, depth)

    def _write_object(self, value: object, kind: type, depth: int) -> Node:
        named = (type, FunctionType, ModuleType, enum.Enum, _CACHED, *_BUILTIN)
        if isinstance(value, named) and (reference := self._refer(value)) is not None:
            return reference
        if kind is MethodType:
            assert isinstance(value, MethodType)
            return ["m", self._write(value.__self__, depth - 1), value.__func__.__name__]
        if kind is FunctionType:
            assert isinstance(value, FunctionType)
            return self._write_function(value, depth)
        if kind is io.StringIO or kind is io.BytesIO:
            assert isinstance(value, (io.StringIO, io.BytesIO))
            return [
                "x",
                ["r", f"io:{kind.__name__}"],
                [self._write(value.getvalue(), 1)],
                None,
                [],
                [],
            ]
        module = kind.__module__
        if kind is _BUILTIN[0] and isinstance(getattr(value, "__self__", None), (str, bytes)):
            return ["m", self._write(value.__self__, depth - 1), value.__name__]  # type: ignore[attr-defined]
        if module in PURE_MODULES or self._is_own(module):
            return self._write_reduced(value, depth, takes_state=module in PURE_MODULES)
        raise UnwritableError

    def _refer(self, value: object) -> Node | None:
        """Return where a class, a function, a module or a member of an enumeration stands."""
        if isinstance(value, ModuleType):
            name = value.__name__
            return ["r", f"{name}:"] if name in PURE_MODULES or self._is_own(name) else None
        kind = type(value)
        if isinstance(value, enum.Enum):
            module, inside = kind.__module__, f"{kind.__qualname__}.{value._name_}"
        else:
            module = getattr(value, "__module__", None) or "builtins"
            inside = getattr(value, "__qualname__", "")
        if not isinstance(module, str) or not isinstance(inside, str) or "<" in inside:
            return None
        if module not in PURE_MODULES and not self._is_own(module):
            return None
        if module == "builtins" and inside in _IMPURE:
            raise UnwritableError
        try:
            return ["r", f"{module}:{inside}"] if look_up(f"{module}:{inside}") is value else None
        except (AttributeError, KeyError, ImportError):
            return None

    def _write_function(self, function: FunctionType, depth: int) -> Node:
        """Write a function of the tests that uses nothing but what can be written."""
        code = function.__code__
        names = sorted(set(_global_names(code)))
        used: dict[str, Node] = {}
        for name in names:
            if name in function.__globals__:
                used[name] = self._write(function.__globals__[name], depth - 1)
            elif name in _IMPURE or not hasattr(builtins, name):
                raise UnwritableError
        cells = [self._write(cell.cell_contents, depth - 1) for cell in function.__closure__ or ()]
        defaults = [self._write(value, depth - 1) for value in function.__defaults__ or ()]
        if function.__kwdefaults__:
            raise UnwritableError
        blank = code.replace(co_filename="", co_firstlineno=1)
        return ["k", base64.b64encode(marshal.dumps(blank)).decode(), used, defaults, cells]

    def _write_reduced(self, value: object, depth: int, *, takes_state: bool) -> Node:
        try:
            reduced = value.__reduce_ex__(2)
        except Exception:
            raise UnwritableError from None
        if not isinstance(reduced, tuple):
            raise UnwritableError
        maker, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if state and not takes_state:  # the insides of an object are the project's own affair
            raise UnwritableError
        return [
            "x",
            self._write(maker, depth - 1),
            [self._write(each, depth - 1) for each in arguments],
            self._write(state, depth - 1) if state else None,
            [self._write(each, depth - 1) for each in items or ()],
            [[self._write(k, depth - 1), self._write(v, depth - 1)] for k, v in pairs or ()],
        ]


_CACHED = type(functools.lru_cache(len))
_BUILTIN = (type(len), type(str.upper), type(str.__len__), type(property()))


def write_plain(value: object) -> Node | None:
    """Return the node of a scalar or a text by exact type; None for anything else and for None."""
    kind = type(value)
    if kind is bool:
        return value
    if kind is str:
        assert isinstance(value, str)
        return value if is_text(value) else ["u", value.encode("utf-8", "surrogatepass").hex()]
    if kind is int:
        assert isinstance(value, int)
        return value if -_SMALL < value < _SMALL else ["i", hex(value)]
    if kind is float:
        return ["f", repr(value)]
    if kind is bytes:
        assert isinstance(value, bytes)
        return ["b", value.decode("latin-1")]
    return None


def is_text(value: str) -> bool:
    """Tell whether UTF-8 can hold a string."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def look_up(reference: str) -> Any:
    """Return what stands at 'module:name.name'; the module is one that is loaded or can be.

    Raises:
        ImportError, AttributeError: There is no such thing.
    """
    module, _, inside = reference.partition(":")
    if module not in sys.modules:
        __import__(module)
    found: Any = sys.modules[module]
    for name in filter(None, inside.split(".")):
        found = getattr(found, name)
    return found


def read_value(node: Node, made: Mapping[int, Any]) -> Any:
    """Make the value of a node again; `made` holds what earlier operations made.

    Raises:
        Exception: What the project raises, or KeyError if an operation made nothing.
    """
    if not isinstance(node, list):
        return node
    kind, rest = node[0], node[1:]
    if kind in _MADE_BY:
        return _MADE_BY[kind](read_value(each, made) for each in rest[0])
    if kind == "d":
        return {read_value(key, made): read_value(value, made) for key, value in rest[0]}
    if kind == "i":
        return int(rest[0], 16)
    if kind == "f":
        return float(rest[0])
    if kind == "b":
        return rest[0].encode("latin-1")
    if kind == "u":
        return bytes.fromhex(rest[0]).decode("utf-8", "surrogatepass")
    if kind == "h":
        return _follow(made[rest[0]], rest[1])
    if kind == "r":
        return look_up(rest[0])
    if kind == "m":
        return getattr(read_value(rest[0], made), rest[1])
    if kind == "k":
        return _read_function(rest, made)
    maker, arguments, state, items, pairs = rest
    value = read_value(maker, made)(*(read_value(each, made) for each in arguments))
    if state is not None:
        _set_state(value, read_value(state, made))
    for each in items:
        value.append(read_value(each, made))
    for key, item in pairs:
        value[read_value(key, made)] = read_value(item, made)
    return value


def _follow(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        value = value[step] if isinstance(step, int) else getattr(value, step)
    return value


def _set_state(value: Any, state: Any) -> None:
    if hasattr(value, "__setstate__"):
        value.__setstate__(state)
    elif isinstance(state, dict):
        value.__dict__.update(state)


def _read_function(parts: list[Node], made: Mapping[int, Any]) -> FunctionType:
    code, used, defaults, cells = parts
    names = {name: read_value(node, made) for name, node in used.items()}
    closure = tuple(_cell(read_value(node, made)) for node in cells)
    return FunctionType(
        marshal.loads(base64.b64decode(code)),
        {"__builtins__": builtins, **names},
        argdefs=tuple(read_value(node, made) for node in defaults),
        closure=closure or None,
    )


def _cell(value: object) -> Any:
    return (lambda: value).__closure__[0]  # type: ignore[index]


def _global_names(code: CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield each.argval
        elif each.opname in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
            raise UnwritableError
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)
