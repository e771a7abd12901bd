"""Combined bugs: two or three mutations that are planted together, in one file or across two.

For long tasks there is one in each of several files (`combine_files`).

Made from single mutations that are tasks of their own, so that little is left to chance: the test
function that shows one must pass with each of the others, and no two are in one function. The suite
has yet to be run on the result, since one bug may hide another.
"""

import itertools
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from envs.mutation.operators import Mutation, apply

NUM_SITES = (2, 3)  # as design section 6: single, then 2-3 in a file, then across files


@dataclass(frozen=True)
class Bug:
    """One or more mutations of a project that make one task.

    Attributes:
        mutations: Sorted by path and position, so that equal bugs are equal values.

    Raises:
        ValueError: There is no mutation, or two of them touch the same characters.
    """

    mutations: tuple[Mutation, ...]

    def __post_init__(self) -> None:
        if not self.mutations:
            raise ValueError("a bug needs a mutation")
        ordered = tuple(sorted(self.mutations, key=_place))
        for left, right in itertools.pairwise(ordered):
            if left.path == right.path and right.start <= left.end:
                raise ValueError(f"two mutations of {left.path} meet in line {right.line}")
        object.__setattr__(self, "mutations", ordered)

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the files that differ."""
        return tuple(sorted({mutation.path for mutation in self.mutations}))

    @property
    def operators(self) -> tuple[str, ...]:
        """Return the operator of each mutation, in their order."""
        return tuple(mutation.operator for mutation in self.mutations)

    def apply(self, files: Mapping[str, str]) -> dict[str, str]:
        """Return the changed files, and only those, by path."""
        changed = {path: files[path] for path in self.paths}
        for mutation in reversed(self.mutations):  # from the end: offsets before it still hold
            changed[mutation.path] = apply(changed[mutation.path], mutation)
        return changed


class Symptoms(NamedTuple):
    """What a mutation does alone, in test functions by file and name."""

    shown: tuple[str, str]
    failing: frozenset[tuple[str, str]]


def combine(
    singles: Mapping[Mutation, Symptoms], *, rng: random.Random, across_files: bool
) -> list[Bug]:
    """Draw combinations in a random order, at most one that begins with each single mutation.

    The result depends on `singles` as a set and on `rng` only. A mutation that was used less often
    is taken first, so that the first bugs of the list have little in common.

    Args:
        singles: Mutations of one project, each with the tests that fail by it alone.
        rng: Source of all choices.
        across_files: Whether the sites of a bug lie in exactly two files, or all in one.
    """
    leads = sorted(singles, key=_place)
    rng.shuffle(leads)
    uses: Counter[Mutation] = Counter()
    bugs: dict[Bug, None] = {}
    for lead in leads:
        chosen, wanted = [lead], rng.choice(NUM_SITES)
        others = rng.sample(leads, len(leads))
        for other in sorted(others, key=uses.__getitem__):
            if len(chosen) == wanted:
                break
            if _fits(chosen, other, singles, num_files=2 if across_files else 1):
                chosen.append(other)
        bug = Bug(tuple(chosen))
        if len(chosen) > 1 and bug not in bugs:
            bugs[bug] = None
            uses.update(chosen)
    return list(bugs)


def combine_files(
    singles: Mapping[Mutation, Symptoms], *, sizes: Mapping[Mutation, int], num_files: int
) -> list[Bug]:
    """Combine a mutation in each of several files, so that those of the largest sum come first.

    Each single mutation leads at most one, as in `combine`, and those used less often go first.

    Args:
        singles: As in `combine`.
        sizes: What each mutation takes to be seen and mended.
        num_files: Files of a bug, and mutations.
    """
    leads = sorted(singles, key=lambda mutation: (-sizes[mutation], _place(mutation)))
    uses: Counter[Mutation] = Counter()
    bugs: dict[Bug, int] = {}
    for lead in leads:
        chosen = [lead]
        for other in sorted(leads, key=uses.__getitem__):
            if len(chosen) == num_files:
                break
            if _fits(chosen, other, singles, num_files=len(chosen) + 1):
                chosen.append(other)
        bug = Bug(tuple(chosen))
        if len(chosen) == num_files and bug not in bugs:
            bugs[bug] = sum(sizes[each] for each in chosen)
            uses.update(chosen)
    return sorted(bugs, key=lambda bug: -bugs[bug])


def _fits(
    chosen: list[Mutation],
    other: Mutation,
    singles: Mapping[Mutation, Symptoms],
    *,
    num_files: int,
) -> bool:
    """Tell whether `other` goes with those chosen: see the top of the file."""
    together = [*chosen, other]
    if len({mutation.path for mutation in together}) != num_files:
        return False
    if any((one.path, one.function) == (other.path, other.function) for one in chosen):
        return False
    pairs = itertools.permutations(together, 2)
    return all(singles[one].shown not in singles[another].failing for one, another in pairs)


def _place(mutation: Mutation) -> tuple[str, int, int, str, str]:
    site = mutation.path, mutation.start, mutation.end
    return *site, mutation.replacement, mutation.operator
