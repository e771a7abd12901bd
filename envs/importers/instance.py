"""What every format of benchmark is read into: a program twice, and claims about its tests.

Formats differ in what their patch is (the bug, or the fix) and in how tests are named; what
happens to an instance afterwards is the same (`envs/importers/check_instance.py`).

Tests: tests/envs/importers/test_check_instance.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from envs.files import is_inside
from envs.tasks.store import Files

DOCUMENTATION = (".md", ".rst")  # of a fix: it would tell, and no test reads it


class RejectError(Exception):
    """Why an instance becomes no task: 'reason (what in particular)'."""


@dataclass(frozen=True)
class Trees:
    """A program as it should be, and as its bug leaves it.

    Attributes:
        pristine: Without the bug, with all tests.
        broken: With it; the same files.
        test_files: Files that the instance brought for its tests, whatever their names.

    Raises:
        RejectError: A path leads out of the program.
    """

    pristine: Files
    broken: Files
    test_files: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for path in (*self.pristine, *self.broken):
            if not is_inside(path):
                raise RejectError(f"a path that leads out of the program ({path[:99]!r})")


@dataclass(frozen=True)
class Instance:
    """One line of a benchmark.

    Attributes:
        name: Printed with what becomes of it; no task is named so, since it may tell the bug.
        project: What its tasks are of.
        origin: Where it comes from: repository and commit, or file and number.
        statement: What is to be done; '' for what the visible test says.
        plant: Makes the two trees of that of the repository; raises RejectError.
        failing: Ids of the tests that its bug fails; None for those that are seen to fail.
        passing: Ids of others that count; None for all that pass.
        is_mutant: Somebody planted the bug in a repository, whose tree is the one without it: then
            it must leave half of the tests alone, as any planted bug must.
        needs_repository: Its trees are made of one.
    """

    name: str
    project: str
    origin: str
    plant: Callable[[Files], Trees] = field(repr=False)
    statement: str = ""
    failing: frozenset[str] | None = None
    passing: frozenset[str] | None = None
    is_mutant: bool = False
    needs_repository: bool = True

    @property
    def named(self) -> frozenset[str] | None:
        """Ids of all tests that it names; None if it names none and all of its trees count."""
        if self.failing is None and self.passing is None:
            return None
        return (self.failing or frozenset()) | (self.passing or frozenset())
