"""Compares the family of readers behind the least peak with the best of all readers.

    python benchmarks/least_peak.py --lengths 1 2 4 8 --tasks 500 --seconds 600

For generated tasks of each length (modules that hold needed facts; 1: an ordinary task), in the
limits of long_tasks.py and the tokens of the tiny model:

- The family's least window against a bound (reader_bound.py): no plan of any number of ranges,
  files and searches for any text, in any order and any turns, fits into a smaller window. "fewest
  reads" is what a plan needs at least: where that is above six, no set of up to six reads shows
  what has to be seen. Where family and bound differ, the reads that the bound found are played: is
  there a better plan?
- In a window that needs a rewrite, drawn between the floor and the least window of `full_history`:
  the family, and demonstrators without rewriting tools, under `full_history`, and the plain scripts
  that rewrite, under `learned`.

Rows are kept, one by one: the same command goes on. The exit code is 1 if a better plan was found,
the bound is more than `_NEAR` away, a reader solved in such a window or no script did. Needs scipy
(`pip install -e .[dev]`).
"""

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.every_read import NotCovered
from benchmarks.long_tasks import LIMITS, SIZES, make_chat, name_task
from benchmarks.measuring import Row, Spec, collect
from benchmarks.reader_bound import Bound, Nearest
from envs.environment import Environment
from envs.habits.options import draw_habit, draw_options
from envs.prompts import system_prompt
from envs.readers.least_peak import (
    FAMILY,
    LeastPeak,
    list_family,
    list_scripts,
    measure_least_peak,
)
from envs.readers.needs import list_lines
from envs.readers.plans import Plan, plan_together
from envs.readers.play import Game
from envs.readers.reads import Read
from envs.rendering import ChatFormat
from envs.sources.synthetic import generate
from envs.tasks.store import BuiltTask
from envs.tools import Toolbox, no_sandbox
from envs.workspace import Workspace

_NEAR = 0.05  # of a window: what the bound leaves out, of one turn or two


class FullHistory(Game):
    """A game under `full_history`: its prompt, and no tool that rewrites."""

    def open(self, window: int) -> Environment:
        """Return a fresh environment with a window of so many tokens."""
        limits = replace(self.limits, window_tokens=window)
        return Environment(
            self.task,
            self.files,
            chat=self.chat,
            system=self.system,
            limits=limits,
            strategy="full_history",
        )


def play_readers(game: FullHistory, window: int, rng: random.Random) -> list[bool]:
    """Return which of all readers without rewrites solve in a window."""
    solved = [play(window).solved for _, play in list_family(game)]
    for kind in ("careful", "wasteful"):
        options = replace(
            draw_options(draw_habit(kind, rng=rng), rng=rng), rewrite="none", note=False, plan=False
        )
        options = replace(options, test_before=False, test_after=False)  # needs no sandbox
        solved.append(game.play_demonstrator(window, options).solved)
    return solved


def list_plans(game: Game, nearest: Nearest) -> Iterator[Plan]:
    """Yield plans of the reads that the bound found, in several orders."""
    tools = Toolbox(Workspace.of(game.files, ()), run_visible=no_sandbox)
    reads = []
    for each in nearest.reads:
        result = tools.run(each)
        size = game.sources.count(result.text)
        reads.append(Read(each, frozenset(list_lines(result.spans)), size, size))
    for most in (None, 1, 2, 3):
        for sign in (1, -1):
            ordered = [replace(read, answer=sign * read.answer) for read in reads]
            plan = plan_together(game.needs, ordered, last=nearest.last, fits=game.fits, most=most)
            if plan:
                yield plan


def compare(game: Game, found: LeastPeak) -> Row:
    """Return how near the bound comes to the family's least window, and whether it is beaten."""
    assert found.window is not None and found.room is not None, "some reader solves"
    limit = found.room - game.limits.max_new_tokens
    try:
        program = Bound(game, limit).build()
    except NotCovered as error:
        return {"not_covered": str(error)}
    nearest = program.solve()
    assert nearest.tokens <= limit, "a plan is less than the bound"
    gap = limit - nearest.tokens
    plans = list_plans(game, nearest) if gap else ()
    is_beaten = any(game.play(plan, found.window - 1).solved for plan in plans)
    return {"gap": gap, "reads": program.count_reads(), "beaten": is_beaten}


def measure(task: BuiltTask, chat: ChatFormat) -> Row:
    """Return the row of a task."""
    begun, rng = time.process_time(), random.Random(task.public.id)
    learned, plain = (
        system_prompt("none", name, example=chat.example) for name in ("learned", "full_history")
    )
    parts = (task.public, task.hidden, task.workspace)
    found = measure_least_peak(*parts, chat=chat, system=learned, limits=LIMITS)
    row: Row = {"family_s": time.process_time() - begun, "window": found.window or 0}
    if found.window is None or found.room is None:
        return row
    game = Game(*parts, chat, learned, LIMITS)
    row |= {"floor": found.floor or 0, "reader": found.reader, **compare(game, found)}
    bare = FullHistory(*parts, chat, plain, LIMITS)
    unaided = found.room + len(bare.open(found.window).view().prompt_ids)
    if found.floor and found.floor < unaided:
        drawn = rng.randint(found.floor, unaided - 1)
        row["readers"] = play_readers(bare, drawn, rng)
        row["script"] = any(play(drawn).solved for play in list_scripts(game))
    return {**row, "all_s": time.process_time() - begun}


def describe(length: int, rows: Sequence[Row]) -> str:
    """Return a line of the table."""
    solved = [row for row in rows if row["window"]]
    known = [row for row in solved if "gap" in row]
    tight = [row for row in solved if "script" in row]
    readers = [each for row in tight for each in row["readers"]]
    reads = [row["reads"] for row in known] or [0]
    cells = [
        length,
        len(rows),
        f"{statistics.mean(row['window'] for row in solved):.0f}",
        f"{min(reads)} to {max(reads)}",
        f"{sum(not row['gap'] for row in known)} of {len(known)}",
        f"{max((row['gap'] / row['window'] for row in known), default=0):.1%}",
        sum(row["beaten"] for row in known),
        len(rows) - len(known),
        f"{len(tight)} of {len(rows)}",
        f"{sum(readers)} of {len(readers):,}",
        f"{sum(row['script'] for row in tight)} of {len(tight)}",
        f"{statistics.mean(row['family_s'] for row in rows):.2f}",
        f"{statistics.mean(row['all_s'] for row in solved):.2f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


HEADS = (
    "length",
    "tasks",
    "least window without a rewrite, mean",
    "fewest reads",
    "bound is the same",
    "else at most less by",
    "better plan found",
    "not covered",
    "tasks with windows that need a rewrite",
    "readers that solve in one",
    "scripts that rewrite solve",
    "CPU-s of the family",
    "CPU-s of all",
)


def is_sound(rows: Sequence[Row]) -> bool:
    """Tell whether family and bound agree, and windows that need a rewrite do."""
    return all(
        not row.get("beaten")
        and row.get("gap", math.inf) <= _NEAR * row["window"]
        and not any(row.get("readers", ()))
        and row.get("script", True)
        for row in rows
    )


def main() -> int:
    """Measure all lengths, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=(1, 2, 4, 8))
    parser.add_argument("--tasks", type=int, default=500, help="of each length")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which none is begun")
    parser.add_argument("--rows", type=Path, default=ROOT / "runs" / "least_peak.jsonl")
    parser.add_argument("--out", type=Path, help="where to write the table as Markdown")
    asked = parser.parse_args()
    chat, ends = make_chat(SIZES), time.monotonic() + asked.seconds
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    print("\n".join(lines))
    all_sound = True
    for length in asked.lengths:
        sizes = replace(SIZES, length=(length,))
        tasks: dict[str, BuiltTask] = {}
        for task in generate(asked.tasks, split="test", seed=0, settings=sizes):
            tasks[name_task(task, chat, FAMILY)] = task

        def measure_one(spec: Spec, tasks: dict[str, BuiltTask] = tasks) -> Row:
            return measure(tasks[spec["task"]], chat)

        rows = collect(
            [{"length": length, "task": name} for name in tasks],
            measure_one,
            kept=asked.rows,
            budget_s=ends - time.monotonic(),
        )
        if rows:
            lines.append(describe(length, rows))
            print(lines[-1], flush=True)
        all_sound &= is_sound(rows) and len(rows) == asked.tasks
    if asked.out:
        command = f"`python benchmarks/least_peak.py {' '.join(sys.argv[1:])}`"
        asked.out.write_text("\n".join(["# Least peaks", "", command, "", *lines, ""]), "utf-8")
    return 0 if all_sound else 1


if __name__ == "__main__":
    sys.exit(main())
