"""What a build tells of itself: progress while it runs, afterwards what was dropped and why."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from envs.tasks.streak import NO_SANDBOX

TOO_LONG = "ran too long"
DIFFERS = "failing tests differ between runs"
GOLD_FAILS = "gold does not score 1"
RED = "the suite is not green"
TOO_SLOW = "the suite is too slow"
# What a busy machine may be behind, so that another one may find the task useful.
JOURNALED = (TOO_LONG, DIFFERS, GOLD_FAILS, RED, TOO_SLOW, NO_SANDBOX)


class Report(Protocol):
    """Takes progress: what is being done, how many are done, of how many, and where it is."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show it, or do not."""
        ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


@dataclass
class Yield:
    """How many bugs of one kind were tried, made a test fail, and became tasks."""

    tried: int = 0
    noticed: int = 0
    useful: int = 0


@dataclass
class Tally:
    """What was dropped: reasons with counts, and a journal of what the machine may be behind."""

    rejects: Counter[str] = field(default_factory=Counter)
    journal: list[str] = field(default_factory=list)
    yields: dict[str, Yield] = field(default_factory=dict)

    def drop(self, what: str, reject: str) -> None:
        """Count what is of no use; also name it, if another machine might find it useful."""
        self.rejects[reject] += 1
        if reject in JOURNALED:
            self.journal.append(f"{what}: {reject}")

    def count(self, kind: str, *, noticed: bool, useful: bool) -> None:
        """Count a bug that was tried."""
        found = self.yields.setdefault(kind, Yield())
        found.tried += 1
        found.noticed += noticed
        found.useful += useful
