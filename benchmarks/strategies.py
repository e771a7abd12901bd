"""Every context strategy with every scripted habit, on long tasks in windows that need a rewrite.

    python benchmarks/strategies.py --tasks 200

For each strategy and habit: pass rate and tokens per solved with 95 % intervals over tasks, peak
context, rewrites by the policy and by the strategy. Where a strategy has no tools to rewrite with,
habits that differ in nothing else are played once. What is played, and when it counts as solved:
`benchmarks/scripted.py`. Finished cells are kept, so the same command goes on where it was ended.

The exit code is 1 unless, for each length, full_history solves nothing under any habit, and on at
least half of the tasks that some habit solves under `learned` it ends in context_overflow.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import Row, list_commits, show_interval
from benchmarks.scripted import (
    Arena,
    describe,
    describe_tasks,
    list_habits,
    parse,
    sum_up,
)
from envs.records import StopReason, Strategy
from rewards.intervals import bootstrap, pass_rate_estimate

HEADS = (
    "strategy",
    "habit",
    "solved",
    "tokens per solved",
    "peak, median and p95",
    "own rewrites",
    "automatic",
    "overflowed",
)


def main() -> int:
    """Play what is missing, check, print and write the tables."""
    given = parse(__doc__, name="strategies")
    arena = Arena(given.tasks, given.rows, 60 * given.minutes)
    cells = [
        (length, strategy, habit)
        for length in given.lengths
        for strategy in get_args(Strategy)
        for habit in list_habits(strategy)
    ]
    specs = [arena.spec(strategy, habit, length=length) for length, strategy, habit in cells]
    print(f"{len(specs)} cells of {given.tasks} tasks", flush=True)
    rows = arena.measure(specs)
    lines, is_good = [], len(rows) == len(specs)
    for length in given.lengths:
        here = [row for row in rows if row["spec"]["length"] == length]
        lines += [f"## {length} modules", "", *write_table(here), ""]
        said, held = check(here)
        lines += [said, ""]
        is_good &= held
    played = [row["spec"] for row in rows]
    if missing := [describe(spec) for spec in specs if spec not in played]:
        lines += [f"Missing, the same command goes on: {'; '.join(missing)}.", ""]
    text = "\n".join(
        [
            "# Strategies and habits on long tasks",
            "",
            f"`python benchmarks/strategies.py --tasks {given.tasks} --lengths "
            f"{' '.join(map(str, given.lengths))}`, at {list_commits(rows)}. Scripts that know the "
            "repair, one episode a task; 95 % intervals over tasks. All rows of a length play the "
            "same tasks in the same windows, none of which a reader solves without a rewrite.",
            "",
            *describe_tasks(arena, given.lengths),
            "",
            *lines,
        ]
    )
    given.out.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(text)
    return 0 if is_good else 1


def write_table(rows: Sequence[Row]) -> list[str]:
    """Return a Markdown table of the cells of one length."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for row in rows:
        spec, sums, num = row["spec"], sum_up(row), len(row["solved"])
        passed = pass_rate_estimate(sums, num_tasks=num, seed=0)
        cost = bootstrap(sums.tokens_per_solved, num_tasks=num, seed=0)
        alike = list_habits(spec["strategy"])[spec["habit"]]
        median, most = np.percentile(row["peaks"], (50, 95))
        cells = [
            spec["strategy"],
            spec["habit"] + (f" ({', '.join(alike)} alike)" if alike else ""),
            show_interval(passed.value, passed.ci95, ".3f"),
            show_interval(cost.value, cost.ci95, ",.0f"),
            f"{median:,.0f}, {most:,.0f}",
            f"{row['own']:.2f}",
            f"{row['automatic']:.2f}",
            f"{fmean(map(_overflowed, row['stops'])):.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def check(rows: Sequence[Row]) -> tuple[str, bool]:
    """Tell whether full_history overflows where a disciplined habit solves; says what was found."""
    solved = _solved_by_some([row for row in rows if row["spec"]["strategy"] == "learned"])
    plain = [row for row in rows if row["spec"]["strategy"] == "full_history"]
    if not plain or not any(solved):
        return "Check: nothing to compare yet.", False
    num_plain = sum(_solved_by_some(plain))
    where = [n for n, each in enumerate(solved) if each]
    overflown = [any(_overflowed(row["stops"][n]) for row in plain) for n in where]
    held = num_plain == 0 and 2 * sum(overflown) >= len(where)
    return (
        f"Check {'held' if held else 'FAILED'}: some habit under `learned` solves {len(where)} of "
        f"{len(solved)} tasks; on {sum(overflown)} of these some habit under `full_history` ends "
        f"in context_overflow; of all tasks these habits solve {num_plain}.",
        held,
    )


def _solved_by_some(rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    return [any(each) for each in zip(*(row["solved"] for row in rows), strict=True)]


def _overflowed(stop: str) -> bool:
    return stop == StopReason.CONTEXT_OVERFLOW.value


if __name__ == "__main__":
    sys.exit(main())
