"""Records the calls that cross from tests into a project: a pytest plugin, inside the sandbox.

A call crosses where a frame of the project begins and none of the project is on the stack. Noted
is what to do again (call, get, set), with arguments as they were at its beginning and objects by
the operation that made them; what came of it is not noted, for the gold tree says that when the
operations are done again (`envs/sandbox/child_replay.py`).

An operation is left out if an argument cannot be written down (`envs/call_values.py`).
Standard library only; `sys.setprofile`, so only the main thread is seen.
Tests: tests/envs/projects/test_record_calls.py.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from types import CodeType, FrameType, FunctionType
from typing import Any

from envs.call_values import Node, Writer, look_up, write_plain

MAX_OPERATIONS = 40_000  # of a suite
MAX_OF_TEST = 400
MAX_OF_CALLABLE = 1_000  # over all tests
MAX_CHARS = 20_000  # of one operation
MAX_KEPT = 100_000  # objects that are known by how they were made
_OPTIMIZED, _VARARGS, _VARKEYWORDS = 1, 4, 8  # flags of code objects
_RESUMES = 0x20 | 0x80 | 0x200  # generators, coroutines, asynchronous generators
_FRESH = 3  # bits of RESUME's argument that are 0 where a function begins
_UNSEEN = {"__del__", "__init_subclass__", "__set_name__", "__prepare__", "__getattr__"}


class CallRecorder:
    """The plugin; `start` before pytest does, `finish` after it.

    Args:
        files: The project's Python files, without its tests: absolute path to name.
        write: Called with the id of a test ('' outside of any) and the JSON of an operation.
    """

    def __init__(self, files: Mapping[str, str], *, write: Callable[[str, str], None]) -> None:
        self._files, self._write = files, write
        self._is_own_code: dict[CodeType, bool] = {}
        self._is_own_module: dict[object, bool] = {}
        self._members: dict[type, dict[CodeType, tuple[str, str, FunctionType]]] = {}
        self._functions: dict[CodeType, list[Any]] = {}  # closures that operations made
        self._made: dict[int, tuple[object, int, list[str | int]]] = {}
        self._writer = Writer(self._find_made, self._is_own)
        self._outer: FrameType | None = None
        self._reached: set[CodeType] = set()
        self._pending: list[Any] | None = None
        self._number = 0
        self._test, self._num_of_test = "", 0
        self._counts: Counter[CodeType] = Counter()

    def start(self) -> None:
        """Record from here on."""
        sys.setprofile(self._profile)

    def finish(self) -> None:
        """Record no more."""
        sys.setprofile(None)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin a test."""
        self._test, self._num_of_test = nodeid, 0
        sys.setprofile(self._profile)

    def pytest_runtest_logfinish(self) -> None:
        """End a test."""
        self._test = ""

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "return":
            if frame is self._outer:
                self._outer = None
                if self._pending is not None:
                    self._note(frame, argument)
        elif event == "call":
            code = frame.f_code
            own = self._is_own_code.get(code)
            if own is None:
                own = self._is_own_code[code] = self._is_own_frame(frame)
            if own:
                if self._outer is not None:
                    self._reached.add(code)
                else:
                    self._begin(frame, code)

    def _is_own_frame(self, frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        if name in self._files:
            return True
        return name.startswith("<") and self._is_own(frame.f_globals.get("__name__"))

    def _is_own(self, name: object) -> bool:
        known = self._is_own_module.get(name)
        if known is None:
            module = sys.modules.get(name) if isinstance(name, str) else None
            if module is None:
                return False
            known = self._is_own_module[name] = getattr(module, "__file__", "") in self._files
        return known

    def _begin(self, frame: FrameType, code: CodeType) -> None:
        """A call crosses: shield what is inside it, and note it if it can be done again."""
        inner = "<genexpr>" in code.co_name or not code.co_flags & _OPTIMIZED
        if inner or (code.co_flags & _RESUMES and self._is_resumed(frame, code)):
            self._outer, self._pending = frame, None
            return
        try:
            operation = self._describe(frame, code)
        except Exception:  # it cannot be written, or an object of the project does not let itself
            operation = []
        if operation is None:
            return  # not a name's: what it calls may be
        self._outer, self._reached = frame, {code}
        self._pending = operation or None

    @staticmethod
    def _is_resumed(frame: FrameType, code: CodeType) -> bool:
        return bool(code.co_code[frame.f_lasti + 1] & _FRESH)

    def _describe(self, frame: FrameType, code: CodeType) -> list[Any] | None:
        """Return an operation, [] for one that is not noted, None if the code has no name."""
        if code.co_name in _UNSEEN or self._is_full(code):
            return []
        values, keywords = _arguments(frame, code)
        target = self._find_target(frame, code, values)
        if target is None:
            return None
        kind, to, name, skipped, function = target
        values = _without_defaults(values, keywords, code, function)
        if kind == "skip":
            return []
        mode = "await" if code.co_flags & 0x80 else ""
        node = self._writer.write(to)
        arguments = [self._writer.write(value) for value in values[skipped:]]
        named = {key: self._writer.write(value) for key, value in keywords.items()}
        return [kind, node, name, arguments, named, mode]

    def _is_full(self, code: CodeType) -> bool:
        self._counts[code] += 1
        self._num_of_test += 1
        return (
            self._number >= MAX_OPERATIONS
            or self._num_of_test > MAX_OF_TEST
            or self._counts[code] > MAX_OF_CALLABLE
        )

    def _find_target(
        self, frame: FrameType, code: CodeType, values: list[Any]
    ) -> tuple[str, Any, str, int, Any] | None:
        """Return (kind, on what, name, arguments to skip, function), None if it has no name."""
        if values and code.co_argcount:
            first = values[0]
            for owner in ([first] if isinstance(first, type) else []) + [type(first)]:
                found = self._members_of(owner).get(code)
                if found is None:
                    continue
                kind, name, function = found
                if name == "__new__" and isinstance(first, type):
                    return "call", first, "", 1, function
                if name == "__init__":
                    made = self._made.get(id(first))
                    if made is not None and made[0] is first:
                        return "skip", None, "", 0, None  # after __new__
                    return "call", type(first), "", 1, function
                name = "" if name == "__call__" and owner is not first else name
                return kind, first, name, 1, function
        if "<" in code.co_qualname:
            known = self._functions.get(code, [])
            return ("call", known[0], "", 0, None) if len(known) == 1 else None
        module = frame.f_globals.get("__name__")
        try:
            found = look_up(f"{module}:{code.co_qualname}")
        except Exception:
            return None
        return ("call", found, "", 0, found) if _holds(found, code) else None

    def _members_of(self, owner: type) -> dict[CodeType, tuple[str, str, FunctionType]]:
        """Return a class's methods and properties by code: 'call', 'get' or 'set', and its name."""
        known = self._members.get(owner)
        if known is None:
            known = self._members[owner] = {}
            for base in reversed(owner.__mro__):
                for name, member in list(base.__dict__.items()):
                    try:
                        functions = _functions_of(member)
                    except Exception:  # an object of the project that answers to any name
                        continue
                    for kind, function in functions:
                        known[function.__code__] = (kind, name, function)
        return known

    def _find_made(self, value: object) -> Node | None:
        found = self._made.get(id(value))
        if found is not None and found[0] is value:
            return ["h", found[1], found[2]]
        return None

    def _note(self, frame: FrameType, result: object) -> None:
        """Write the operation that ends, and remember what it made."""
        operation, self._pending = self._pending, None
        number, self._number = self._number, self._number + 1
        assert operation is not None
        code = frame.f_code
        if operation[0] == "call" and code.co_name == "__init__" and code.co_argcount:
            result = frame.f_locals.get(code.co_varnames[0], result)
        places = sorted(
            f"{self._files[each.co_filename]}:{each.co_firstlineno}"
            for each in self._reached
            if each.co_filename in self._files
        )
        text = json.dumps([number, *operation, places])
        if len(text) > MAX_CHARS:
            return
        self._write(self._test, text)
        if not code.co_flags & _RESUMES:
            self._remember(result, number)

    def _remember(self, result: object, number: int) -> None:
        parts: list[tuple[object, list[str | int]]] = [(result, [])]
        if type(result) in (list, tuple):
            assert isinstance(result, (list, tuple))
            parts = [(each, [at]) for at, each in enumerate(result[:100])]
        for value, steps in parts:
            if len(self._made) >= MAX_KEPT or value is None or write_plain(value) is not None:
                continue
            if type(value) in (list, tuple, dict, set, frozenset) or isinstance(value, type):
                continue
            self._made.setdefault(id(value), (value, number, steps))
            if type(value) is FunctionType:
                known = self._functions.setdefault(value.__code__, [])
                if value not in known:
                    known.append(value)
            for name, held in _held(value):
                self._made.setdefault(id(held), (held, number, [*steps, name]))


def _arguments(frame: FrameType, code: CodeType) -> tuple[list[Any], dict[str, Any]]:
    names, held = code.co_varnames, frame.f_locals
    end = code.co_argcount
    values = [held[name] for name in names[:end]]
    keywords = {name: held[name] for name in names[end : end + code.co_kwonlyargcount]}
    end += code.co_kwonlyargcount
    if code.co_flags & _VARARGS:
        values += held[names[end]]
        end += 1
    if code.co_flags & _VARKEYWORDS:
        keywords |= held[names[end]]
    return values, keywords


def _without_defaults(
    values: list[Any], keywords: dict[str, Any], code: CodeType, function: Any
) -> list[Any]:
    """Leave out trailing arguments, and named ones, that are the function's defaults."""
    while isinstance(function, (staticmethod, classmethod)) or hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    named = getattr(function, "__kwdefaults__", None) or {}
    for name in [name for name in keywords if name in named and keywords[name] is named[name]]:
        del keywords[name]
    defaults = getattr(function, "__defaults__", None) or ()
    if len(values) != code.co_argcount:
        return values
    for default in reversed(defaults):
        if not values or values[-1] is not default:
            break
        values = values[:-1]
    return values


def _functions_of(member: Any) -> list[tuple[str, FunctionType]]:
    """Return the functions behind an attribute of a class, with what a use of it is."""
    kinds: list[tuple[str, Any]] = [("call", member)]
    if isinstance(member, property):
        kinds = [("get", member.fget), ("set", member.fset)]
    elif isinstance(member, cached_property):
        kinds = [("get", member.func)]
    found = []
    for kind, function in kinds:
        for _ in range(10):
            if isinstance(function, FunctionType):
                found.append((kind, function))
            inner = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
            if inner is None:
                break
            function = inner
    return found


def _holds(found: Any, code: CodeType) -> bool:
    return any(function.__code__ is code for _, function in _functions_of(found))


def _held(value: object) -> list[tuple[str, object]]:
    """Return the public attributes of an object that are objects themselves."""
    try:
        held = object.__getattribute__(value, "__dict__")
    except Exception:
        return []
    if type(held) is not dict:
        return []
    return [
        (name, each)
        for name, each in list(held.items())[:50]
        if type(name) is str
        and name[:1] != "_"
        and hasattr(each, "__dict__")
        and not isinstance(each, type)
    ]
