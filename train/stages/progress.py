"""Progress lines: what is being done, how far, and the time left; at least one every 10 s.

    with Progress("warm start", total=600, unit="steps") as progress:
        for step in range(600):
            ...
            progress.update(step + 1, note="loss 0.81")

Plain lines on standard error, on a terminal and off it alike. A thread repeats the last state while
a long step says nothing, so a silent terminal means a stopped program. The time left takes for the
rest the pace of the later half of what this process did; what an interrupted run did is not counted
as work: `update` says where things stand, and only what lies between two such calls took time.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Self, TextIO

from train.stages.stage_log import terminal

MOST_MARKS = 256  # remembered points of time; above that every second one is forgotten
EVERY_S = 8.0  # below the promised 10 s, so that a busy machine still keeps it


class Progress:
    """Reports the state of one stretch of work.

    Args:
        what: What is being done, as a phrase; '' if `show` says it.
        total: Units in all; None if unknown.
        unit: Plural name of a unit.
        every_s: Seconds without a line after which one is written.
        clock: Seconds from any origin, never decreasing.
        stream: Where lines go; None: standard error.
        enabled: False writes nothing (all processes but the first).
    """

    def __init__(
        self,
        what: str,
        *,
        total: int | None = None,
        unit: str = "steps",
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        stream: TextIO | None = None,
        enabled: bool = True,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self.note = 0, ""
        self._every_s, self._clock = every_s, clock
        self._stream = stream if stream is not None else terminal()
        self._enabled = enabled
        self._began = self._last = clock()
        self._marks: list[tuple[float, int]] = []  # when how many were done
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.report()
        if self._enabled:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.report(last=True)

    def update(self, done: int, *, note: str = "") -> None:
        """Say how many units are done; writes a line if the last one is old enough.

        The first call may count units that an interrupted run did.
        """
        with self._lock:
            self.done, self.note = done, note
            self._mark()
        self.tick()

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """Say how many of how many are done of what; another `what` begins another stretch."""
        if what != self.what:
            self.report(last=True)
            with self._lock:
                self.what, self.total, self.done, self.note = what, total, 0, ""
                self._began, self._marks = self._clock(), []
            self.report()
        self.total = total
        self.update(done, note=note)

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Say that `count` more units are done; safe from several threads."""
        with self._lock:
            self._marks = self._marks or [(self._began, self.done)]
            self.done, self.note = self.done + count, note or self.note
            self._mark()
        self.tick()

    def tick(self) -> None:
        """Write a line if the last one is old enough."""
        if self._clock() - self._last >= self._every_s:
            self.report()

    def report(self, *, last: bool = False) -> None:
        """Write a line now; `last` shows the time it took instead of the time left."""
        with self._lock:
            self._last = self._clock()
            line = self.line(last=last)
            if self._enabled and self.what:
                self._stream.write(f"{line}\n")
                self._stream.flush()

    def line(self, *, last: bool = False) -> str:
        """Return the state as text, such as 'warm start: 20/60 steps (33 %), 1m10s left'."""
        elapsed_s = self._clock() - self._began
        if self.total is None:
            count, share = f"{self.done} {self.unit}", ""
        else:
            count = f"{self.done}/{self.total} {self.unit}"
            share = f" ({100 * self.done // max(1, self.total)} %)"
        left_s = self.left_s()
        if last:
            when = f"took {duration(elapsed_s)}"
        elif left_s is None:
            when = f"{duration(elapsed_s)} so far"
        else:
            when = f"{duration(left_s)} left"
        return f"{self.what}: {count}{share}, {when}" + (f" | {self.note}" if self.note else "")

    def left_s(self) -> float | None:
        """Return the seconds left at the recent pace; None as long as it is unknown."""
        if self.total is None or len(self._marks) < 2:
            return None
        now, (last_s, done) = self._clock(), self._marks[-1]
        half = bisect_right(self._marks, ((self._marks[0][0] + now) / 2, done)) - 1
        first_s, before = self._marks[min(half, len(self._marks) - 2)]
        each_s, rest = (last_s - first_s) / (done - before), self.total - done
        if rest <= 0:
            return 0.0
        # what is under way takes as long as its like did; overdue, as long again as it is late
        chunk = min(done - self._marks[-2][1], rest)
        return each_s * (rest - chunk) + abs(each_s * chunk - (now - last_s))

    def _mark(self) -> None:
        if self._marks and self._marks[-1][1] == self.done:
            return
        if self._marks and self._marks[-1][1] > self.done:  # begun again
            self._marks.clear()
        if len(self._marks) >= MOST_MARKS:
            del self._marks[-2::-2]
        self._marks.append((self._clock(), self.done))

    def _beat(self) -> None:
        while not self._stop.wait(min(1.0, self._every_s / 4)):
            self.tick()


def size(num_bytes: float) -> str:
    """Return bytes as '1.21 GB' or '36.86 MB', of 10^9 and 10^6."""
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.2f} MB"


def duration(seconds: float) -> str:
    """Return seconds as '12s', '3m05s' or '2h07m'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
