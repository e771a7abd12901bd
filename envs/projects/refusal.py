"""Why a project gives no tasks: all that is wrong in one line, and the command that would work.

What is found wrong is collected as far as runs of the suite tell it; then one error says all of it.
Where every fault has a remedy in the command itself, the line ends with the whole command.

Tests: tests/envs/projects/test_admission.py.
"""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envs.errors import UserError, list_near

_MOST_NAMES = 12  # in a command that is to be read; beyond, something else is wrong


@dataclass(frozen=True)
class Command:
    """The command that is to make tasks.

    Attributes:
        words: Without what tests to leave out and how long the suite may take.
        exclude: Tests that it leaves out.
        suite_s: CPU seconds that it gives the suite, if it says so.
        bounds_suite: That is an option.
    """

    words: Sequence[str]
    exclude: Collection[str] = ()
    suite_s: float | None = None
    bounds_suite: bool = True


@dataclass
class Refusal:
    """Collects what is wrong with a project.

    Attributes:
        name: The project's.
        command: What the user typed, as far as it matters.
    """

    name: str
    command: Command
    _reasons: dict[str, None] = field(default_factory=dict)
    _remedies: dict[str, None] = field(default_factory=dict)
    _more: dict[str, None] = field(default_factory=dict)
    _less: set[str] = field(default_factory=set)
    _suite_s: float | None = None
    _can_be_typed: bool = True

    def add(
        self,
        reason: str,
        *,
        remedy: str,
        exclude: Collection[str] = (),
        include: Collection[str] = (),
        suite_s: float | None = None,
    ) -> None:
        """Note a fault, with what would mend it.

        Args:
            reason: What is wrong.
            remedy: What to do about it.
            exclude: Tests to leave out.
            include: Names that are excluded in vain.
            suite_s: CPU seconds that the suite needs.
        """
        self._reasons[reason] = None
        self._remedies[remedy] = None
        self._more |= dict.fromkeys(exclude)
        self._less |= set(include)
        self._suite_s = suite_s or self._suite_s
        self._can_be_typed &= bool(exclude or include or suite_s)

    def __bool__(self) -> bool:
        """Tell whether anything is wrong."""
        return bool(self._reasons)

    def stop(self) -> None:
        """Raise the error, if anything is wrong.

        Raises:
            UserError: It is.
        """
        if self:
            command = self._compose_command()
            remedies = "; ".join(self._remedies) + (f". Try: {command}" if command else "")
            reasons = "; and ".join(self._reasons)
            raise UserError(f"{self.name} gives no tasks: {reasons}", remedy=remedies)

    def _compose_command(self) -> str:
        kept = [each for each in self.command.exclude if each not in self._less]
        exclude = list(dict.fromkeys([*kept, *self._more]))
        suite_s = self._suite_s or self.command.suite_s
        if not self._can_be_typed or len(self._more) > _MOST_NAMES:
            return ""
        if self._suite_s and not self.command.bounds_suite:
            return ""
        words = [*self.command.words, *(["--exclude", *exclude] if exclude else [])]
        words += [] if suite_s is None else ["--suite-seconds", f"{suite_s:.0f}"]
        return shlex.join(words)


def name_groups(tests: Collection[str], others: Collection[str]) -> list[str]:
    """Return names of folders, files, functions, cases that stand for `tests` and no other."""
    taken = {name for test in others for name in _list_names(test)}
    found = (next(name for name in _list_names(test) if name not in taken) for test in tests)
    return sorted(set(found))


def _list_names(test: str) -> tuple[str, ...]:
    """Return the names of a test's folders, its file, its function and its id."""
    file, _, _ = test.partition("::")
    folders = [str(folder) for folder in PurePosixPath(file).parents][-2::-1]
    return *folders, file, test.partition("[")[0], test


def refuse_unknown(refusal: Refusal, members: Collection[str], tests: Collection[str]) -> None:
    """Refuse names to exclude that neither a file nor a test has, with those that come near."""
    known = {
        *members,
        *tests,
        *(str(above) for path in members for above in PurePosixPath(path).parents),
    }
    for test in tests:
        head = test.partition("[")[0]
        while head and head not in known:
            known.add(head)
            head = head.rpartition("::")[0]
    for each in refusal.command.exclude:
        if each.rstrip("/") not in known:
            near = list_near(each, known)
            refusal.add(
                f"it has no such test to exclude: {each}",
                remedy=f"did you mean {' or '.join(near)}?" if near else "name a file or test id",
                include=[each],
                exclude=near[:1],
            )
