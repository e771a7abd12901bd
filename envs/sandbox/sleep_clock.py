"""How long the processes of a run have slept, as the kernel counts it.

A process computes, waits for a core, or sleeps. For how long it waits is the machine's doing, the
rest is its own: so a run that is ended for its time is ended for what it has computed or slept,
never for what it has waited. Standard library only; the clock is read by the trusted side, from
/proc, which no candidate can write.

Not covered: waiting for a disk and time that a hypervisor takes count as sleep; a process whose
threads come and go between two looks may seem to have slept a little more than it has; what a
process computes that comes and goes between two looks is seen only if its parent waits for it.
"""

import os

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LONGEST_STEP = 3.0  # times the usual time between two looks; the rest of it nobody was served


class SleepClock:
    """Adds up what a process and all below it have computed and slept, from one look to the next.

    A parent need not ask what its children have computed, and where they are killed with it, or it
    ignores their end, the kernel adds it to nothing; so each is noted as it was last seen.

    Args:
        proc: Descriptor of /proc.
        pid: The process.
        every_s: Seconds between two looks, about.
        now: Time of `time.monotonic()`.
    """

    def __init__(self, proc: int, pid: int, *, every_s: float, now: float) -> None:
        self._proc, self._pid, self._every_s = proc, pid, every_s
        self._looked, self._passed_s = now, 0.0
        self._computed: dict[tuple[str, str], float] = {}
        first = self._served()
        self.is_blind = first is None  # the kernel does not tell here
        self._first_s = first[0] if first else 0.0
        self.slept_s = 0.0

    @property
    def computed_s(self) -> float:
        """CPU seconds of all processes that were seen, those that have ended included."""
        return sum(self._computed.values())

    def look(self, now: float) -> None:
        """Bring `slept_s` and `computed_s` up to date."""
        self._passed_s += min(now - self._looked, _LONGEST_STEP * self._every_s)
        self._looked = now
        found = self._served()
        if found is None or self.is_blind:
            return  # one of them has just ended: the next look counts this time too
        served_s, wants_core = found
        if not wants_core:  # the kernel adds a wait to the rest when it is over
            self.slept_s = self._passed_s - (served_s - self._first_s)

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
