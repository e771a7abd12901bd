"""How long the processes of a run have slept, as the kernel counts it.

A process computes, waits for a core, or sleeps. For how long it waits is the machine's doing, the
rest is its own: so a run that is ended for its time is ended for what it has computed or slept,
never for what it has waited. Standard library only; the clock is read by the trusted side, from
/proc, which no candidate can write.

Not covered: waiting for a disk and time that a hypervisor takes count as sleep; a process whose
threads come and go between two looks may seem to have slept a little more than it has; what a
process computes that comes and goes between two looks is seen only if its parent waits for it.
Tests: tests/envs/sandbox/test_limits.py.
"""

import os
import time

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOOKS = 10  # while it sleeps for as long as it may
_LONGEST_STEP = 3.0  # times the usual time between two looks; the rest of it nobody was served


class SleepClock:
    """Adds up what a process and all below it have computed and slept, from one look to the next.

    A parent need not ask what its children have computed, and where they are killed with it, or it
    ignores their end, the kernel adds it to nothing; so each is noted as it was last seen.

    Args:
        proc: Descriptor of /proc.
        pid: The process.
        limit_s: Seconds that it may sleep in all.

    Attributes:
        every_s: Seconds between two looks.
        slept_s: Seconds that it has slept.
        is_blind: The kernel does not say here who sleeps.
    """

    def __init__(self, proc: int, pid: int, *, limit_s: float) -> None:
        self.every_s, self.slept_s, self.is_blind = limit_s / _LOOKS, 0.0, False
        self._proc, self._pid, self._limit_s = proc, pid, limit_s
        self._looked: float | None = None  # time of `time.monotonic()`
        self._passed_s = self._first_s = 0.0
        self._computed: dict[tuple[str, str], float] = {}

    @property
    def computed_s(self) -> float:
        """CPU seconds of all processes that were seen, those that have ended included."""
        return sum(self._computed.values())

    def is_passed(self) -> bool:
        """Look, if it is time, whether it has slept for too long; the first call starts it."""
        now = time.monotonic()
        if self._looked is None:
            first = self._served()
            self._looked, self.is_blind = now, first is None
            self._first_s = first[0] if first else 0.0
        elif now >= self._looked + self.every_s:
            self._passed_s += min(now - self._looked, _LONGEST_STEP * self.every_s)
            self._looked = now
            served = self._served()  # None if one of them has just ended: the next look counts it
            if served and not served[1] and not self.is_blind:
                # the kernel adds a wait to the rest when it is over
                self.slept_s = self._passed_s - (served[0] - self._first_s)
        return self.slept_s > self._limit_s

    def _served(self) -> tuple[float, bool] | None:
        """Return seconds computed or waited for a core so far, and whether a thread does now."""
        served_s, wants_core, pending = 0.0, False, [str(self._pid)]
        try:
            while pending:
                pid = pending.pop()
                stat = self._read(f"{pid}/stat").rpartition(")")[2].split()
                # its own time, and that of children that were waited for
                served_s += sum(map(int, stat[11:15])) / _TICKS_PER_S
                self._computed[pid, stat[19]] = sum(map(int, stat[11:13])) / _TICKS_PER_S
                for thread in self._threads(pid):
                    place = f"{pid}/task/{thread}"
                    served_s += int(self._read(f"{place}/schedstat").split()[1]) / 1e9
                    state = self._read(f"{place}/stat").rpartition(")")[2].split()[0]
                    wants_core |= state == "R"
                    pending += self._read(f"{place}/children").split()
        except (OSError, ValueError, IndexError):
            return None
        return served_s, wants_core

    def _threads(self, pid: str) -> list[str]:
        folder = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._proc)
        try:
            return os.listdir(folder)  # noqa: PTH208 (a descriptor has no Path)
        finally:
            os.close(folder)

    def _read(self, name: str) -> str:
        file = os.open(name, os.O_RDONLY, dir_fd=self._proc)
        try:
            return os.read(file, 2**16).decode("ascii", "replace")
        finally:
            os.close(file)
