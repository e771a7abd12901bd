"""What becomes of each test, told by pytest plugins inside the sandbox: outcomes, and time.

`Reporter` keeps the tests that are asked for and writes a line for each phase of each. It writes no
name that the trusted side sent, but the number under which it was sent; and no line without a
ticket, which the guard outside puts into a pipe (`TicketPipe` in `envs/sandbox/framing.py`). A
ticket is taken when a line is ready and is spent with it, so none is in this process, nor anything
else that a line would need to be believed, while tests or what they test run as they should.

`Timekeeper` says how long each test took, and ends those that take too much of the time for all of
them, for the first look at a suite: which tests are slow shows without waiting for the slowest. A
test may compute for several times its share of what is left, and is ended by an exception then;
once nothing is left, no further test is run. Time is that of computing, started processes included,
or that on the clock if a test mostly waits of its own will: a machine that others use makes no test
slow. Standard library only.

Not covered: code that has a plugin, or pytest, report what is not so; a test that computes in one
call of compiled code, which no exception ends.
Tests: tests/envs/grading/test_graders.py, tests/envs/projects/test_admission.py.
"""

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

from envs.sandbox.framing import TICKET_BYTES, write_whole

_OTHERS_MARKERS = ("flaky", "no_cover", "order", "xdist_group")
PHASES = ["setup", "call", "teardown"]
NO_NAME = -1  # where a line is about no test or file that the trusted side named
_SHARES = 4  # of the time that is left for each test that is left, for the one that runs
_LEAST, _MOST = 1 / 40, 1 / 8  # of the whole time, which a test may take in any case, and at most
_AGAIN = 1 / 20  # of the time of a test, after which it is ended again if it goes on
_BUSY = 10  # times that of computing, below which a test counts as one that does not wait
SLOW, UNRUN = "slow", "not run"


class Reporter:
    """The plugin that keeps only expected tests and reports every phase of each.

    Args:
        writer: Descriptor of the result pipe.
        tickets: Descriptor of the pipe with tickets.
        ids: Tests to keep, None for all.
        test_files: What is collected. Ids and then files are known by their numbers in this order;
            where all tests are kept, what has no number is named when it first comes up.
        skip: Tests that are not run.
        max_text: Most characters of what a test says.
        words: What to write instead of others.
    """

    def __init__(
        self,
        writer: int,
        tickets: int,
        *,
        ids: Sequence[str] | None,
        test_files: Sequence[str],
        skip: frozenset[str],
        max_text: int,
        words: dict[str, str],
    ) -> None:
        self._writer, self._tickets = writer, tickets
        self._keeps_all, self._skip = ids is None, skip
        self._numbers = {name: number for number, name in enumerate([*(ids or ()), *test_files])}
        self._max_text = max_text
        self._passed: list[str] = []  # phases of the test that runs
        self._words = sorted(words.items(), key=lambda word: -len(word[0]))

    def pytest_configure(self, config: Any) -> None:
        """Know the markers of plugins that are never loaded."""
        for name in _OTHERS_MARKERS:
            config.addinivalue_line("markers", f"{name}: of a plugin that is not loaded")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the tests that are asked for."""
        if not self._keeps_all:
            items[:] = [item for item in items if item.nodeid in self._numbers]
        if self._skip:
            names = (item.nodeid for item in items)
            left = {name for name in names if not self._skip.isdisjoint(_names_of(name))}
            for name in left:
                self.write("left", name)
            items[:] = [item for item in items if item.nodeid not in left]

    def pytest_collectreport(self, report: Any) -> None:
        """Say of a file that it cannot be collected."""
        if report.failed:
            self.write("collect", report.nodeid, "failed", str(report.longrepr))

    def pytest_internalerror(self, excrepr: object) -> None:
        """Say that pytest failed."""
        self.write("collect", "conftest.py", "failed", str(excrepr))

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Say that the run was interrupted, by `pytest.exit` too."""
        self.write("collect", "conftest.py", "failed", str(excinfo.value))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say that a test begins."""
        self._passed.clear()
        self.write("start", nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Say what came of a phase; of those that pass, when the test is over."""
        if report.passed and hasattr(report, "context"):
            return  # a part of a test, as unittest's subTest makes them: the test itself follows
        outcome = "xfail" if hasattr(report, "wasxfail") else report.outcome
        if outcome == "passed":
            self._passed.append(report.when)
        else:
            self._write_passed(report.nodeid)
            self.write(report.when, report.nodeid, outcome, str(report.longrepr))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Say that a test passed, in one line if nothing else happened."""
        if self._passed == PHASES:
            self._passed.clear()
            self.write("passed", nodeid)
        self._write_passed(nodeid)

    def _write_passed(self, test_id: str) -> None:
        for phase in self._passed:
            self.write(phase, test_id, "passed")
        self._passed.clear()

    def note_lines(self, test_id: str, lines: str) -> None:
        """Write what `LineTrace` saw."""
        self._tell("lines", self._number(test_id), "", lines)

    def note_call(self, test_id: str, operation: str) -> None:
        """Write what `CallRecorder` saw."""
        self._tell("calls", self._number(test_id), "", operation)

    def note_time(self, test_id: str, outcome: str, seconds: str) -> None:
        """Write what `Timekeeper` saw."""
        self.write("took", test_id, outcome, seconds)

    def write(self, phase: str, test_id: str = "", outcome: str = "", text: str = "") -> None:
        """Write a line, with other words for what differs from machine to machine."""
        for name, word in self._words:
            text = text.replace(name, word)
        self._tell(phase, self._number(test_id), outcome, text[-self._max_text :])

    def _number(self, name: str) -> int:
        """Return the number of a test, or else of its file."""
        if self._keeps_all and name and name not in self._numbers:
            self._numbers[name] = len(self._numbers)
            self._tell("name", self._numbers[name], "", name)
        file = name.partition("::")[0]
        return self._numbers.get(name, self._numbers.get(file, NO_NAME))

    def _tell(self, phase: str, number: int, outcome: str, text: str) -> None:
        line = json.dumps([phase, number, outcome, text]).encode("ascii")
        ticket = os.read(self._tickets, TICKET_BYTES)
        if not ticket:  # the guard has seen something else in the pipe and ends the run
            os._exit(1)
        write_whole(self._writer, ticket + line + b"\n")


def _names_of(test_id: str) -> Iterator[str]:
    """Yield the names by which a test may be left out: its id, function, classes and file."""
    yield test_id
    name = test_id.partition("[")[0]
    while name:
        yield name
        name = name.rpartition("::")[0]


class TooSlowError(BaseException):
    """Raised inside a test that is ended; no `except Exception` catches it."""


class Timekeeper:
    """The plugin that measures.

    Args:
        budget_s: Seconds for all tests.
        write: Called with the id of each test, `SLOW` if it was ended, `UNRUN` if it never began,
            and its seconds.
    """

    def __init__(self, budget_s: float, *, write: Callable[[str, str, str], None]) -> None:
        self._left_s, self._write = budget_s, write
        self._least_s, self._most_s = _LEAST * budget_s, _MOST * budget_s
        self._num_left = 1
        self._began, self._is_slow = _read_clocks(), False
        signal.signal(signal.SIGPROF, self._end_test)

    def pytest_collection_finish(self, session: Any) -> None:
        """Count the tests."""
        self._num_left = sum(not _is_doctest(item) for item in session.items)

    def pytest_runtest_protocol(self, item: Any) -> bool | None:
        """Leave a test alone if no time is left, and a doctest in any case: none will count."""
        if self._left_s > 0 and not _is_doctest(item):
            return None
        self._write(item.nodeid, UNRUN, "0")
        return True

    def pytest_runtest_logstart(self) -> None:
        """Begin to measure a test."""
        self._began, self._is_slow = _read_clocks(), False
        self._wind_up()

    def pytest_runtest_teardown(self) -> None:
        """Let what ends a test have as long as the test."""
        self._wind_up()

    def _wind_up(self) -> None:
        share_s = _SHARES * self._left_s / max(1, self._num_left)
        most_s = min(self._most_s, max(self._least_s, share_s))
        signal.setitimer(signal.ITIMER_PROF, most_s, _AGAIN * most_s)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write what the test took."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        now = _read_clocks()
        computed_s, passed_s = now.computed_s - self._began.computed_s, now.s - self._began.s
        waits = now.num_waits > self._began.num_waits and passed_s > _BUSY * computed_s
        took_s = passed_s if waits else computed_s
        self._left_s, self._num_left = self._left_s - took_s, self._num_left - 1
        self._write(nodeid, SLOW if self._is_slow else "", f"{took_s:.4f}")

    def _end_test(self, signum: int, frame: FrameType | None) -> None:
        """Raise where pytest takes what is raised for the test's own: below a phase of it."""
        while frame is not None and frame.f_back is not None:
            inner, frame = frame, frame.f_back
            is_phase = inner.f_code.co_name == "<lambda>" and frame.f_code.co_name == "from_call"
            if is_phase and frame.f_globals.get("__name__") == "_pytest.runner":
                self._is_slow = True
                raise TooSlowError("took too long")


def _is_doctest(item: Any) -> bool:
    return type(item).__name__ == "DoctestItem"


class _Clocks(NamedTuple):
    """Seconds of computing, of ended processes too; seconds; how often it gave its core back."""

    computed_s: float
    s: float
    num_waits: int


def _read_clocks() -> _Clocks:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed_s = time.process_time() + children.ru_utime + children.ru_stime
    num_waits = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    return _Clocks(computed_s, time.monotonic(), num_waits)
