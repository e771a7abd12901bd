"""What a build says of itself: progress while it runs, afterwards what was dropped and why.

Tests: tests/envs/projects/test_build_projects.py.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

TOO_LONG = "ran too long"
DIFFERS = "failing tests differ between runs"
UNSTEADY = "what the visible test says differs between runs"
GOLD_FAILS = "gold does not score 1"
GOLD_STUCK = "gold cannot make its repair with the tools"
NO_SANDBOX = "the sandbox failed"
RED = "the suite is not green"
TOO_SLOW = "the suite is too slow"
# What a busy machine may be behind, so that another one may find the task useful.
JOURNALED = (TOO_LONG, DIFFERS, UNSTEADY, GOLD_FAILS, RED, TOO_SLOW, NO_SANDBOX)
MOST_IN_A_ROW = 50  # bugs rejected after a run for one reason, from which on a build is fruitless
_NUM_SHOWN = 3  # reasons in a line of progress

ShowProgress = Callable[..., None]
"""Takes what is being done, how many are done, of how many, and perhaps where it is."""


@dataclass
class OperatorStats:
    """How many bugs of one kind were tried, made a test fail, and became tasks."""

    tried: int = 0
    noticed: int = 0
    useful: int = 0


@dataclass
class BuildReport:
    """What was dropped: reasons with counts, and a journal of what the machine may be behind.

    Attributes:
        last_reject: Of the bug that was run last; '' if it became a task.
        in_a_row: Bugs that were run and rejected for it, one after the other.
    """

    rejects: Counter[str] = field(default_factory=Counter)
    journal: list[str] = field(default_factory=list)
    yields: dict[str, OperatorStats] = field(default_factory=dict)
    last_reject: str = ""
    in_a_row: int = 0

    def drop(self, what: str, reject: str) -> None:
        """Count what is rejected; also name it, if another machine might accept it."""
        self.rejects[reject] += 1
        if reject in JOURNALED:
            self.journal.append(f"{what}: {reject}")

    def count(self, kind: str, *, noticed: bool, useful: bool) -> None:
        """Count a bug that was tried."""
        found = self.yields.setdefault(kind, OperatorStats())
        found.tried += 1
        found.noticed += noticed
        found.useful += useful

    def follow(self, reject: str | None) -> None:
        """Note what became of a bug that was run, after those before it."""
        same = reject == self.last_reject
        self.last_reject, self.in_a_row = reject or "", self.in_a_row + 1 if same else 1

    def describe(self) -> str:
        """Return how many bugs were tried, and the commonest reasons of rejects."""
        tried = sum(found.tried for found in self.yields.values())
        shown = [f"{count} {reason}" for reason, count in self.rejects.most_common(_NUM_SHOWN)]
        return f"{tried} tried" + (f"; rejected: {', '.join(shown)}" if shown else "")
