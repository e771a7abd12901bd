"""What a scripted demonstrator does, and the habits from which a demonstration is drawn.

A habit is a way of working that shows in the record: `shows` tells what must be in an episode that
is to demonstrate it. Careful ones are to be learned; wasteful ones are there to be unlearned.

Tests: tests/envs/habits/test_options.py.
"""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from envs.habits.mistakes import MISTAKES, Mistake

Find = Literal["search", "outline", "file"]
Kind = Literal["careful", "wasteful"]
HabitName = Literal[
    "surgical",
    "outline_first",
    "plan_first",
    "evict_after_use",
    "compact_at_milestone",
    "late_compaction",
    "no_compaction",
    "whole_file",
    "second_looks",
]


@dataclass(frozen=True)
class ScriptOptions:
    """How a demonstrator works.

    Attributes:
        find: How it gets to the function: `search`, `outline`, or `file` (read the whole file).
        list_first: Lists the files first.
        test_before: Runs the tests before reading.
        test_after: Runs the tests before submitting.
        submit_with_edit: Submits in the turn of its last edit.
        note: Writes a note after each edit.
        reread: Reads the edited lines again.
        rewrite: What it does when the next site would not fit.
        eager: Rewrites between sites even when the next one would fit.
        late: Rewrites only when a result came cut, not when it foresees that.
        plan: Finds all sites first, and notes what it will read before it reads any.
        mistake: One that it makes, and repairs.
        without: Tools that it does not call; `leave_out` fits the rest to it.
    """

    find: Find = "search"
    list_first: bool = False
    test_before: bool = False
    test_after: bool = False
    submit_with_edit: bool = False
    note: bool = False
    reread: bool = False
    rewrite: Literal["none", "evict", "compact"] = "evict"
    eager: bool = False
    late: bool = False
    plan: bool = False
    mistake: Mistake | None = None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Habit:
    """One way of working.

    Attributes:
        name: In records and tables.
        kind: Whether it is to be learned, or unlearned.
        options: What it always does; the rest is drawn.
        roomy: Its weight among habits of its kind where the window needs no rewrite.
        tight: Its weight where it needs one.
        tools: Those that it cannot do without.
        num_sites: Sites of a task, at least, without which it would not show.
        evicts: Whether an episode that shows it must evict, or must not; None: either.
        compacts: Likewise.
    """

    name: HabitName
    kind: Kind
    options: ScriptOptions
    roomy: float
    tight: float
    tools: frozenset[str] = frozenset()
    num_sites: int = 1
    evicts: bool | None = None
    compacts: bool | None = None

    def shows(self, *, num_evictions: int, num_compactions: int, plans: bool) -> bool:
        """Tell whether an episode, of which this is what its record says, shows the habit."""
        return (
            self.evicts in (None, num_evictions > 0)
            and self.compacts in (None, num_compactions > 0)
            and (plans or not self.options.plan)
        )


_TOOLS_TO_FIND: Mapping[Find, frozenset[str]] = {
    "search": frozenset({"search", "read_lines"}),
    "outline": frozenset({"outline", "read_lines"}),
    "file": frozenset({"read_file"}),
}
_EVICT, _COMPACT, _NOTE = frozenset({"evict"}), frozenset({"compact"}), frozenset({"note"})

# Weights are reasoned: in tight windows about half evict, if that is enough, and half compact; in
# roomy ones most do neither.
HABITS: tuple[Habit, ...] = (
    Habit("surgical", "careful", ScriptOptions(), 4, 2),
    Habit("outline_first", "careful", ScriptOptions(find="outline"), 2, 1),
    Habit("plan_first", "careful", ScriptOptions(plan=True), 1, 1, _NOTE, 2),
    Habit(
        "evict_after_use",
        "careful",
        ScriptOptions(eager=True),
        0.5,
        2,
        _EVICT,
        2,
        evicts=True,
        compacts=False,
    ),
    Habit(
        "compact_at_milestone",
        "careful",
        ScriptOptions(rewrite="compact", eager=True),
        0.5,
        1.5,
        _COMPACT,
        2,
        evicts=False,
        compacts=True,
    ),
    Habit(
        "late_compaction",
        "careful",
        ScriptOptions(rewrite="compact", late=True),
        0,
        2.5,
        _COMPACT,
        2,
        evicts=False,
        compacts=True,
    ),
    Habit(
        "no_compaction",
        "careful",
        ScriptOptions(rewrite="none"),
        2,
        0,
        num_sites=2,
        evicts=False,
        compacts=False,
    ),
    Habit("whole_file", "wasteful", ScriptOptions(find="file"), 1, 1),
    Habit("second_looks", "wasteful", ScriptOptions(find="outline", reread=True), 1, 1),
)


def draw_habit(
    kind: Kind,
    *,
    rng: random.Random,
    needs_rewrite: bool = False,
    tools: Collection[str] = ("note", "evict", "compact"),
    num_sites: int = 2,
) -> Habit:
    """Draw a habit of a kind by its weight.

    Args:
        kind: Careful or wasteful.
        rng: Decides.
        needs_rewrite: Whether the window will need one.
        tools: Those that the context strategy offers.
        num_sites: Most sites that a task has.
    """
    fit = [
        habit
        for habit in HABITS
        if habit.kind == kind and habit.tools <= set(tools) and habit.num_sites <= num_sites
    ]
    return rng.choices(fit, [each.tight if needs_rewrite else each.roomy for each in fit])[0]


def draw_options(habit: Habit, *, rng: random.Random, errs: bool = False) -> ScriptOptions:
    """Draw what a habit leaves open; which mistake it makes, if it `errs`."""
    options = habit.options
    if habit.kind == "careful":
        options = replace(
            options, test_after=rng.random() < 0.3, submit_with_edit=rng.random() < 0.5
        )
        if habit.name == "plan_first":
            options = replace(options, rewrite="evict" if rng.random() < 0.5 else "compact")
    else:
        level = rng.choice((0.1, 0.5, 0.9))
        options = replace(
            options,
            list_first=rng.random() < level,
            test_before=rng.random() < level,
            test_after=rng.random() < level,
            note=rng.random() < level / 2,
            reread=options.reread or rng.random() < level / 2,
            # a reader of whole files rarely frees enough by evicting them
            rewrite="compact" if rng.random() < 0.8 else "evict",
            eager=rng.random() < 0.1,
        )
    if errs:
        options = replace(options, mistake=rng.choice(MISTAKES))
    return options


def leave_out(options: ScriptOptions, without: Collection[str]) -> ScriptOptions:
    """Return how one works that gets by without some tools, or without a `plan`.

    Where one rewrite is missing the other serves; where lines cannot be read, whole files are.
    """
    rewrites = [each for each in (options.rewrite, "evict", "compact") if each not in without]
    finds = [
        each
        for each in (options.find, "search", "outline", "file")
        if _TOOLS_TO_FIND[each].isdisjoint(without)
    ]
    can_plan = {"search", "outline"}.difference(without) and {"note", "plan"}.isdisjoint(without)
    can_rewrite = bool(rewrites) and options.rewrite != "none"
    return replace(
        options,
        find=finds[0] if finds else options.find,
        list_first=options.list_first and "list_files" not in without,
        test_before=options.test_before and "run_tests" not in without,
        test_after=options.test_after and "run_tests" not in without,
        note=options.note and "note" not in without,
        rewrite=rewrites[0] if rewrites else "none",
        eager=options.eager and can_rewrite,
        late=options.late and can_rewrite,
        plan=options.plan and bool(can_plan),
        without=frozenset(without),
    )
