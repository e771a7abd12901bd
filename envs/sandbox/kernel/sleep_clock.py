"""How long the processes of a run have computed, slept and waited for a core, as the kernel counts.

A process computes, waits for a core, or sleeps. For how long it waits is the machine's doing, the
rest is its own: so a run that is ended for its time is ended for what it has computed or slept,
never for what it has waited. Standard library only; the clock is read by the trusted side, from
/proc, which no candidate can write.

What threads wait for adds up, also where they only wait for each other. So a run that is ended by
the clock on the wall counts as not served only if it was seen to want a core at most looks: these
come at times that nobody can foresee, and wanting one without being given one takes a busy machine.

Not covered: waiting for a disk and time that a hypervisor takes count as sleep; a process whose
threads come and go between two looks may seem to have slept a little more than it has; without
control groups, what a process computes that comes and goes between two looks is seen only if its
parent waits for it.
Tests: tests/envs/sandbox/test_limits.py.
"""

import os
import random
import time
from collections.abc import Callable

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOOKS = 10  # while it sleeps for as long as it may
_JITTER = (0.5, 1.5)  # times the usual time between two looks
_LONGEST_STEP = 3.0  # times the usual time between two looks; the rest of it nobody was served
_LEAST_LOOKS = 5  # by fewer nothing is known, and he who looks was not served either


class SleepClock:
    """Adds up what a process and all below it have computed and slept, from one look to the next.

    A parent need not ask what its children have computed, and where they are killed with it, or it
    ignores their end, the kernel adds it to nothing; so each is noted as it was last seen.

    Args:
        proc: Descriptor of /proc.
        pid: The process.
        limit_s: Seconds that it may sleep in all.
        count_s: Returns what the kernel has counted of all of them together, 0 if it does not.

    Attributes:
        limit_s: Seconds that it may sleep in all.
        every_s: Seconds between two looks, about.
        slept_s: Seconds that it has slept.
        computed_s: CPU seconds of all processes that were seen, those that have ended included.
        is_blind: The kernel does not say here who sleeps.
    """

    def __init__(
        self, proc: int, pid: int, *, limit_s: float, count_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.every_s, self.slept_s, self.is_blind = limit_s / _LOOKS, 0.0, False
        self.computed_s = 0.0
        self.limit_s = limit_s
        self._proc, self._pid, self._count_s = proc, pid, count_s
        self._looked: float | None = None  # time of `time.monotonic()`
        self._step_s = self._passed_s = self._first_s = 0.0
        self._computed: dict[tuple[str, str], float] = {}
        self._waited: dict[tuple[str, str, str], float] = {}
        self._num_looks = self._num_wanted = 0
        # Not the one that the candidate, a fork of the same server, could draw from as well.
        self._random = random.SystemRandom()

    @property
    def due_s(self) -> float:
        """Seconds until the next look; to wait for any other time would let it be foreseen."""
        if self._looked is None:
            return self.every_s
        return max(0.0, self._looked + self._step_s - time.monotonic())

    @property
    def is_starved(self) -> bool:
        """Whether it wanted a core at most looks, or nobody was served; if blind, perhaps."""
        few = self.is_blind or self._num_looks < _LEAST_LOOKS
        return few or 2 * self._num_wanted > self._num_looks

    def is_passed(self) -> bool:
        """Look, if it is time, whether it has slept for too long; the first call starts it."""
        now = time.monotonic()
        if self._looked is None:
            self._looked = now
            self.is_blind = all(self._look() is None for _ in range(3))  # one may have just ended
            self._first_s = self._served_s()
            self._draw_step()
        elif now >= self._looked + self._step_s:
            self._passed_s += min(now - self._looked, _LONGEST_STEP * self.every_s)
            self._looked = now
            self._draw_step()
            wants_core = self._look() is not False  # or one of them has just ended
            self._num_looks += 1
            self._num_wanted += wants_core
            if not wants_core and not self.is_blind:
                # the kernel adds a wait to the rest when it is over
                self.slept_s = self._passed_s - (self._served_s() - self._first_s)
        return self.slept_s > self.limit_s

    def _draw_step(self) -> None:
        self._step_s = self.every_s * self._random.uniform(*_JITTER)

    def _served_s(self) -> float:
        return self.computed_s + sum(self._waited.values())

    def _look(self) -> bool | None:
        """Note what all have computed and waited; returns whether one of them wants a core now.

        None if not all of it could be read: one has just ended, or the kernel does not tell.
        """
        wants_core, living_s, pending = False, 0.0, [str(self._pid)]
        try:
            while pending:
                pid = pending.pop()
                stat = self._read(f"{pid}/stat").rpartition(")")[2].split()
                # its own time, and that of children that were waited for
                living_s += sum(map(int, stat[11:15])) / _TICKS_PER_S
                self._computed[pid, stat[19]] = sum(map(int, stat[11:13])) / _TICKS_PER_S
                for thread in self._threads(pid):
                    place = f"{pid}/task/{thread}"
                    waited = self._read(f"{place}/schedstat").split()[1]
                    self._waited[pid, stat[19], thread] = int(waited) / 1e9
                    state = self._read(f"{place}/stat").rpartition(")")[2].split()[0]
                    wants_core |= state == "R"
                    pending += self._read(f"{place}/children").split()
        except (OSError, ValueError, IndexError):
            return None
        finally:
            noted_s = sum(self._computed.values())
            self.computed_s = max(self.computed_s, living_s, noted_s, self._count_s())
        return wants_core

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
