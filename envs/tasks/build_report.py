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
UNREACHED = "no test reaches it"
ONE_REACHES = "one test function only reaches it"
REPEATED = "function like one of an earlier split"
NOT_RUN = (UNREACHED, ONE_REACHES, REPEATED)  # rejects that take no time
RED = "the suite is not green"
TOO_SLOW = "the suite is too slow"
# What a busy machine may be behind, so that another one may find the task useful.
JOURNALED = (TOO_LONG, DIFFERS, UNSTEADY, GOLD_FAILS, RED, TOO_SLOW, NO_SANDBOX)
MOST_REJECTS = 50  # for one reason, after a run, from which on a build without a task is fruitless
_NUM_SHOWN = 3  # reasons in a line of progress

ShowProgress = Callable[..., None]
"""Takes what is being done, how many are done, of how many, and perhaps where it is."""


@dataclass
class OperatorStats:
    """How many bugs of one kind were tried, made a test fail, and were good for a task.

    Where only combined ones become tasks, single ones that they may be made of are good too.
    """

    tried: int = 0
    noticed: int = 0
    useful: int = 0


@dataclass
class BuildReport:
    """What was dropped: reasons with counts, and a journal of what the machine may be behind."""

    rejects: Counter[str] = field(default_factory=Counter)
    journal: list[str] = field(default_factory=list)
    yields: dict[str, OperatorStats] = field(default_factory=dict)

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

    def find_repeated(self) -> str:
        """Return a reason for which `MOST_REJECTS` bugs were rejected after a run, or ''."""
        counts = self.rejects.items()
        found = [one for one, count in counts if count >= MOST_REJECTS and one not in NOT_RUN]
        return found[0] if found else ""

    def describe(self) -> str:
        """Return how many bugs were tried, and the commonest reasons of rejects."""
        tried = sum(found.tried for found in self.yields.values())
        shown = [f"{count} {reason}" for reason, count in self.rejects.most_common(_NUM_SHOWN)]
        return f"{tried} tried" + (f"; rejected: {', '.join(shown)}" if shown else "")
