"""Notes which lines each test of a suite executes: a pytest plugin, inside the sandbox.

Also noted is how far each function is from the test: calls on the stack when it first runs.

What may act on other tests than the one that runs it counts for all of them: lines executed while
test files are collected, while any module is imported, and by a fixture that several tests share.
A test counts as one that executes all lines if it takes the tracer away, starts a process, or
opens a source file; and all lines of a function that goes round oftener than it is worth to watch.
Standard library only; `sys.settrace`, for Python 3.11 has no
`sys.monitoring`.

Not covered: a value that one test computes and keeps for another; see
`envs/projects/test_impact.py`. Tests: tests/envs/projects/test_test_impact.py.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

LINES_PER_FILE = 2**20  # line n of file number i is written as i * LINES_PER_FILE + n
ALL_LINES = "*"
ENOUGH = 5_000  # lines of one function in one test, after which it counts as executed whole
MANY_CALLS = 2_000_000  # of such functions; noticing one takes 3 us, a generator's next() is one
DISTANCES = "|"  # between the lines of a test and the functions that it calls
_RUNNERS = ("_pytest.", "unittest.")  # modules that call tests and fixtures
_INLINED = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # no calls in the reader's eyes
_STARTS_PROCESS = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen")

Trace = Callable[[FrameType, str, Any], Any]


class LineTrace:
    """The plugin; `start` before pytest does, `finish` after it.

    Args:
        files: Absolute paths of the files to trace.
        backwards: Run the tests in the opposite order.
        write: Called with the id of each test and its lines ('4-9 12', or `ALL_LINES`) and, after
            `DISTANCES`, the first line of each function with its distance ('3:1 11:2'); at the end
            with '' and the lines that count for all tests.
    """

    def __init__(
        self, files: Iterable[str], *, backwards: bool, write: Callable[[str, str], None]
    ) -> None:
        self._numbers = {os.path.realpath(path): number for number, path in enumerate(files)}
        self._backwards, self._write = backwards, write
        self._tracers: dict[str, Trace | None] = {}  # by file name as code objects have it
        self._for_all: set[int] = set()
        self._own = self._phase = self._lines = self._for_all
        self._num_steps: dict[int, int] = {}  # by id of code, since lines go where they go now
        self._watched: list[CodeType] = []  # the codes: alive, for ids are used again
        self._distances: dict[int, int | None] = {}
        self._num_importing = 0
        self._executes_all = False
        self._num_calls = 0
        self._tracer: Trace = self._call  # one object, to be known again

    def start(self) -> None:
        """Trace from here on."""
        sys.addaudithook(self._audit)
        threading.settrace(self._tracer)
        sys.settrace(self._tracer)

    def finish(self) -> None:
        """Trace no more and write what counts for all."""
        sys.settrace(None)
        self._write("", _ranges(self._for_all))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Reverse the order of the tests, if `backwards` says so."""
        if self._backwards:
            items.reverse()

    def pytest_runtest_logstart(self) -> None:
        """Begin a test; an earlier one may have taken the tracer away."""
        self._own, self._distances, self._executes_all, self._num_calls = set(), {}, False, 0
        self._aim(self._own)
        sys.settrace(self._tracer)

    def pytest_fixture_setup(self, fixturedef: Any) -> None:
        """Count for all tests what a shared fixture executes."""
        if fixturedef.scope != "function":
            self._aim(self._for_all)  # up to the test's call: what is set up next may depend on it

    def pytest_runtest_call(self) -> None:
        """Count for this test again."""
        self._aim(self._own)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write what the test executed."""
        lost = self._executes_all or sys.gettrace() is not self._tracer
        far = sorted((line, far) for line, far in self._distances.items() if far is not None)
        distances = " ".join(f"{line}:{calls}" for line, calls in far)
        self._write(nodeid, f"{ALL_LINES if lost else _ranges(self._own)}{DISTANCES}{distances}")
        self._aim(self._for_all)

    def _aim(self, lines: set[int]) -> None:
        self._phase = lines
        self._lines = self._for_all if self._num_importing else lines
        self._num_steps, self._watched = {}, []

    def _call(self, frame: FrameType, event: str, argument: object) -> Trace | None:
        """Trace a new frame if it is a module's or in one of the files."""
        if self._num_steps.get(id(frame.f_code), 0) >= ENOUGH:
            self._num_calls += 1
            if self._num_calls > MANY_CALLS and self._lines is self._own:
                self._executes_all = True
                sys.settrace(None)
            return None
        name = frame.f_code.co_filename
        if name not in self._tracers:
            number = self._numbers.get(os.path.realpath(name))
            self._tracers[name] = None if number is None else self._tracer_of(number)
        if frame.f_code.co_name == "<module>":
            self._num_importing += 1
            self._aim(self._phase)
            frame.f_trace_lines = self._tracers[name] is not None
            return self._module_tracer(self._tracers[name])
        tracer = self._tracers[name]
        return None if tracer is None else tracer(frame, "call", None)

    def _module_tracer(self, tracer: Trace | None) -> Trace:
        def trace(frame: FrameType, event: str, argument: object) -> Trace:
            if event == "return":
                self._num_importing -= 1
                self._aim(self._phase)
            elif tracer is not None:
                tracer(frame, event, argument)
            return trace

        return trace

    def _tracer_of(self, number: int) -> Trace:
        base = number * LINES_PER_FILE

        def trace(frame: FrameType, event: str, argument: object) -> Trace | None:
            if event == "line":
                self._lines.add(base + frame.f_lineno)
                if self._count_step(frame.f_code) >= ENOUGH:
                    lines = (line for _, _, line in frame.f_code.co_lines() if line)
                    self._lines.update(base + line for line in lines)
                    frame.f_trace = None
                    return None  # which alone would change nothing
            elif event == "call":
                self._lines.add(base + frame.f_lineno)
                first = base + frame.f_code.co_firstlineno
                if first not in self._distances:
                    self._distances[first] = _distance(frame)
            return trace

        return trace

    def _count_step(self, code: CodeType) -> int:
        before = self._num_steps.get(id(code), 0)
        if not before:
            self._watched.append(code)
        self._num_steps[id(code)] = before + 1
        return before + 1

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS_PROCESS:
            self._executes_all = True
        elif event == "open" and isinstance(arguments[0], str):
            name = os.path.realpath(arguments[0])
            self._executes_all |= name in self._numbers


def _distance(frame: FrameType) -> int | None:
    """Count the calls from the test, or a fixture, to a frame; None if neither is on the stack."""
    calls, outer = 0, frame.f_back
    while outer is not None and not str(outer.f_globals.get("__name__")).startswith(_RUNNERS):
        calls += frame.f_code.co_name not in _INLINED
        frame, outer = outer, outer.f_back
    return None if outer is None else calls


def _ranges(numbers: Iterable[int]) -> str:
    """Return '4-9 12' for 4, 5, 6, 7, 8, 9 and 12."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def read_trace(written: str) -> tuple[frozenset[int] | None, dict[int, int]]:
    """Return what `LineTrace` wrote of a test.

    Returns:
        The lines that it executed, None for all; the distance of functions by their first line.
    """
    lines, _, calls = written.partition(DISTANCES)
    distances = {int(a): int(b) for a, b in (call.split(":") for call in calls.split())}
    if lines == ALL_LINES:
        return None, distances
    ends = [part.partition("-") for part in lines.split()]
    return frozenset(n for a, _, b in ends for n in range(int(a), int(b or a) + 1)), distances
