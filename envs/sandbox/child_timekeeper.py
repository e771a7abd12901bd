"""Says how long each test took, and ends those that take too much of the time for all of them.

A pytest plugin, inside the sandbox, for the first look at a suite: which tests are slow shows
without waiting for the slowest. A test may compute for several times its share of what is left,
and is ended by an exception then; once nothing is left, no further test is run. Time is that of
computing, started processes included, or that on the clock if a test mostly waits of its own will:
a machine that others use makes no test slow. Standard library only.

Not covered: a test that computes in one call of compiled code, which no exception ends.
Tests: tests/envs/projects/test_admission.py.
"""

import resource
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

_SHARES = 4  # of the time that is left for each test that is left, for the one that runs
_LEAST, _MOST = 1 / 40, 1 / 8  # of the whole time, which a test may take in any case, and at most
_AGAIN = 1 / 20  # of the time of a test, after which it is ended again if it goes on
_BUSY = 10  # times that of computing, below which a test counts as one that does not wait
SLOW, UNRUN = "slow", "not run"


class TooSlowError(BaseException):
    """Raised inside a test that is ended; no `except Exception` catches it."""


class Timekeeper:
    """The plugin.

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
