"""What each of five behaviours is worth to scripted habits: it is taken away, the script copes.

    python benchmarks/ablation.py --tasks 200

Notes, evict, compact, read_lines are taken away as tools (`context.without`), the plan by refusing
notes before the first read. A script copes as `leave_out` in envs/habits/options.py says: the other
rewrite serves, whole files are read for lines. Where nothing changes for a habit the cell stands
for itself and is not played. Differences are paired by task, 95 % intervals over tasks; tasks,
windows and when an episode counts as solved: `benchmarks/scripted.py`. Finished cells are kept.

The same for trained policies: `benchmarks/study.py`.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import Row, list_commits, show_interval
from benchmarks.scripted import Arena, describe, describe_tasks, options_of, parse, sum_up
from envs.records import Behaviour
from rewards.intervals import bootstrap, compare_sums, pass_rate_estimate

BEHAVIOURS: tuple[Behaviour, ...] = ("note", "evict", "compact", "read_lines", "plan")
HABITS = ("surgical", "plan_first", "evict_after_use", "compact_at_milestone", "late_compaction")


def main() -> int:
    """Play what is missing, print and write the tables."""
    given = parse(__doc__, name="ablation")
    arena = Arena(given.tasks, given.rows, 60 * given.minutes)
    specs = [
        arena.spec("learned", habit, length=length, without=without)
        for length in given.lengths
        for habit in HABITS
        for without in ([], *([each] for each in BEHAVIOURS if changes(habit, each)))
    ]
    print(f"{len(specs)} cells of {given.tasks} tasks", flush=True)
    rows = arena.measure(specs)
    lines = []
    for length in given.lengths:
        here = [row for row in rows if row["spec"]["length"] == length]
        lines += [f"## {length} modules", "", *write_table(here), ""]
    played = [row["spec"] for row in rows]
    if missing := [describe(spec) for spec in specs if spec not in played]:
        lines += [f"Missing, the same command goes on: {'; '.join(missing)}.", ""]
    text = "\n".join(
        [
            "# Five behaviours, taken from scripts",
            "",
            f"`python benchmarks/ablation.py --tasks {given.tasks} --lengths "
            f"{' '.join(map(str, given.lengths))}`, at {list_commits(rows)}. Scripts that know the "
            "repair, under `learned`, one episode a task; differences are paired by task, 95 % "
            "intervals over tasks. `=`: the habit does not use it.",
            "",
            *describe_tasks(arena, given.lengths),
            "",
            *lines,
        ]
    )
    given.out.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(text)
    return 0 if len(rows) == len(specs) else 1


def changes(habit: str, behaviour: Behaviour) -> bool:
    """Tell whether a habit works otherwise without a behaviour."""
    whole, left = options_of("learned", habit), options_of("learned", habit, [behaviour])
    if behaviour == "compact" and whole.rewrite == "evict":
        return True  # it compacts where an eviction frees too little
    return whole != replace(left, without=whole.without)


def write_table(rows: Sequence[Row]) -> list[str]:
    """Return a Markdown table of the cells of one length: a row per habit and what is missing."""
    heads = ("habit", "without", "solved", "difference", "tokens per solved", "ratio")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    played = {(row["spec"]["habit"], *row["spec"]["without"]): row for row in rows}
    for habit in HABITS:
        if (habit,) not in played:
            continue
        whole = sum_up(played[habit,])
        lines.append(f"| {habit} | - | {' | '.join(_describe(played[habit,]))} |")
        for each in BEHAVIOURS:
            if not changes(habit, each):
                lines.append(f"| {habit} | {each} | = | | | |")
            elif (habit, each) in played:
                found = compare_sums(whole, sum_up(played[habit, each]))
                points, ratio = found.pass_rate_difference, found.tokens_per_solved_ratio
                solved, _, tokens, _ = _describe(played[habit, each])
                difference = show_interval(points.value, points.ci95, "+.3f")
                cells = [solved, difference, tokens, show_interval(ratio.value, ratio.ci95, ".2f")]
                lines.append(f"| {habit} | {each} | {' | '.join(cells)} |")
    return lines


def _describe(row: Row) -> list[str]:
    """Return pass rate and tokens per solved of a cell, each with an empty cell behind it."""
    sums, num = sum_up(row), len(row["solved"])
    passed = pass_rate_estimate(sums, num_tasks=num, seed=0)
    cost = bootstrap(sums.tokens_per_solved, num_tasks=num, seed=0)
    return [f"{passed.value:.3f}", "", "-" if cost.value is None else f"{cost.value:,.0f}", ""]


if __name__ == "__main__":
    sys.exit(main())
