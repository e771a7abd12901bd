"""Compares the family of readers behind the least peak with an exhaustive search for a better one.

    python benchmarks/least_peak.py SET SET ... --out benchmarks/results/least_peak.md
    python benchmarks/least_peak.py SET --config configs/tiny.yaml --context.max_new_tokens 64

A set is what `tightrope tasks build` wrote; its rows are by number of bugs. Limits and prompt are
those of --config. In the window one token below a task's least peak, every plan is tried that could
fit: each set of up to --most-reads reads (ranges, whole files, searches for any text) that shows
what the repair needs and leaves nothing out, each way of dealing reads and early edits out to
turns, each choice of the edits that stand in the last turn. A plan whose tokens, counted too
low on purpose, exceed the window is not played. Then, in windows that need a rewrite: do the
family, and demonstrators without rewriting tools, solve anything under `full_history`'s prompt, and
does the plain script that rewrites solve under `learned`'s?

The exit code is 1 if a better plan was found, or a window that needs a rewrite did not.
"""

import argparse
import itertools
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from envs.context.fitting import MIN_OBSERVATION_TOKENS
from envs.environment import Environment, Limits
from envs.habits.options import draw_habit, draw_options
from envs.policies import call
from envs.prompts import system_prompt
from envs.readers.least_peak import list_family, measure_least_peak
from envs.readers.needs import Line
from envs.readers.plans import Plan, edit_call, plan_rewriting
from envs.readers.play import Game
from envs.readers.reads import Read, list_reads
from envs.records import ToolCall
from envs.rendering import ChatFormat
from envs.tasks.store import TaskStore
from train.config.load import default_cache, load_settings
from train.config.settings import Settings
from train.models.model import chat_format, load_tokenizer
from train.models.vocabulary import new_tokenizer

_SUBMIT = call("submit")
_SLACK = 4  # tokens by which a call with its result may be cheaper than it was taken to be
_MOST_PLAYS = 3_000  # of one task
_MOST_PLANS = 300_000


@dataclass
class Row:
    """What was found on the tasks with so many bugs."""

    num_tasks: int = 0
    num_unsolved: int = 0
    num_better: int = 0
    num_plays: int = 0
    num_given_up: int = 0
    num_able: int = 0
    num_readers: int = 0
    num_readers_solved: int = 0
    num_rewriting_solved: int = 0
    family_s: float = 0.0
    peaks: int = 0


def list_covers(
    needed: frozenset[Line], reads: Sequence[Read], *, most: int, budget: int
) -> Iterator[tuple[Read, ...]]:
    """Yield the sets of reads that show all, of which none can be left out, within a budget."""

    def extend(chosen: tuple[Read, ...], seen: frozenset[Line], spent: int) -> Iterator[Plan]:
        if spent > budget:
            return
        rest = sorted(needed - seen)
        if not rest:
            parts = [frozenset().union(*(r.shows for r in chosen if r is not o)) for o in chosen]
            if not any(part >= needed for part in parts):
                yield chosen  # type: ignore[misc]
            return
        if len(chosen) == most:
            return
        for read in reads:
            if rest[0] in read.shows:
                yield from extend((*chosen, read), seen | read.shows, spent + read.tokens - _SLACK)

    yield from extend((), frozenset(), 0)  # type: ignore[misc]


def list_plans(game: Game, cover: Sequence[Read]) -> Iterator[Plan]:
    """Yield all ways of dealing reads and edits out to turns, reads of a turn in one order."""
    needs = game.needs
    for size in range(len(needs), -1, -1):
        for last in itertools.combinations(range(len(needs)), size):
            end = [edit_call(needs[place].edit) for place in last]
            if not game.fits([*end, _SUBMIT]):
                continue
            early = [need for place, need in enumerate(needs) if place not in last]
            items = [(read.call, read.shows) for read in cover]
            items += [(edit_call(need.edit), frozenset[Line]()) for need in early]
            for turns in _deal(game, [each for each, _ in items]):
                yield (*turns, (*end, _SUBMIT))


def _deal(game: Game, calls: Sequence[ToolCall]) -> Iterator[Plan]:
    """Yield the ordered partitions of calls into turns that can be written."""
    if not calls:
        yield ()
        return
    for size in range(len(calls), 0, -1):
        for chosen in itertools.combinations(range(len(calls)), size):
            turn = tuple(calls[place] for place in chosen)
            if not game.fits(turn):
                continue
            rest = [each for place, each in enumerate(calls) if place not in chosen]
            for others in _deal(game, rest):
                yield (turn, *others)


def find_better(game: Game, window: int, row: Row, *, most_reads: int) -> Plan | None:
    """Return a plan that solves in a window; None if no plan does."""
    needed = frozenset[Line]().union(*(need.to_see for need in game.needs))
    reads = list_reads(needed, replace(game.sources, most_texts=10**6))
    prefix = len(game.open(10**6).view().prompt_ids)
    budget = window - game.limits.max_new_tokens - prefix
    num_plays = num_plans = 0
    for cover in list_covers(needed, reads, most=most_reads, budget=budget):
        bound = Bound(game, cover)
        for plan in list_plans(game, cover):
            num_plans += 1
            if num_plans < _MOST_PLANS and bound.exceeds(plan, budget):
                continue
            if num_plays >= _MOST_PLAYS or num_plans >= _MOST_PLANS:
                row.num_given_up += 1
                return None
            num_plays += 1
            row.num_plays += 1
            if game.play(plan, window).solved:
                return plan
    return None


class Bound:
    """The least that plans can hold, with the shortest headers and answers to edits."""

    def __init__(self, game: Game, cover: Sequence[Read]) -> None:
        count = game.sources.count
        self._game, header = game, count("[o1 9/9]\n")
        self._results = {str(read.call): header + read.answer for read in cover}
        self._least = header + 1
        self._calls: dict[str, int] = {}

    def exceeds(self, plan: Plan, budget: int) -> bool:
        """Tell whether some view would not fit, or a turn would have no room for its results."""
        used = 0
        for turn in plan[:-1]:
            key = str(turn)
            if key not in self._calls:
                frame = self._game.chat.surround_results([each.name for each in turn])
                self._calls[key] = len(self._game.chat.call_ids(turn)) + frame.num_tokens
            used += self._calls[key]
            if used + MIN_OBSERVATION_TOKENS * len(turn) > budget:
                return True
            used += sum(self._results.get(str(each), self._least) for each in turn)
            if used > budget:
                return True
        return False


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


def play_readers(game: FullHistory, window: int, rng: random.Random, row: Row) -> None:
    """Let all readers without rewrites try a window."""
    for _, play in list_family(game):
        row.num_readers += 1
        row.num_readers_solved += play(window).solved
    for kind in ("careful", "wasteful"):
        options = replace(
            draw_options(draw_habit(kind, rng=rng), rng=rng), rewrite="none", note=False, plan=False
        )
        options = replace(options, test_before=False, test_after=False)  # needs no sandbox
        row.num_readers += 1
        row.num_readers_solved += game.play_demonstrator(window, options).solved


def measure(
    store: TaskStore, settings: Settings, chat: ChatFormat, *, most: int, most_reads: int
) -> dict[int, Row]:
    """Return a row for each number of bugs."""
    context, rows, rng = settings.context, defaultdict[int, Row](Row), random.Random(0)
    limits = Limits(
        window_tokens=0,
        max_turns=context.max_turns,
        max_new_tokens=context.max_new_tokens,
        observation_tokens=context.observation_tokens,
        max_sampled_tokens=context.max_sampled_tokens,
    )
    tools, example = settings.prompt.tools, chat.example
    system, plain = (system_prompt(tools, s, example=example) for s in ("learned", "full_history"))
    for task in store.public.values():
        row = rows[task.difficulty.sites]
        if row.num_tasks >= most:
            continue
        row.num_tasks += 1
        hidden, files = store.hidden[task.id], store.workspace(task)
        start = time.process_time()
        found = measure_least_peak(task, hidden, files, chat=chat, system=system, limits=limits)
        row.family_s += time.process_time() - start
        if found.window is None or found.room is None:
            row.num_unsolved += 1
            continue
        row.peaks += found.window
        game = Game(task, hidden, files, chat, system, limits)
        better = find_better(game, found.window - 1, row, most_reads=most_reads)
        if better:
            row.num_better += 1
            print(f"{task.id}: below {found.window} ({found.reader}) solves {better}", flush=True)
        bare = FullHistory(task, hidden, files, chat, plain, limits)
        unaided = found.room + len(bare.open(found.window).view().prompt_ids)
        if found.floor and found.floor < unaided:
            window = rng.randint(found.floor, unaided - 1)
            row.num_able += 1
            play_readers(bare, window, rng, row)
            plan = plan_rewriting(game.needs, game.sources, most_rewrites=limits.max_rewrites)
            row.num_rewriting_solved += game.play(plan, window).solved
    return rows


def describe(name: str, bugs: int, row: Row) -> str:
    """Return a line of the table."""
    solvable = row.num_tasks - row.num_unsolved
    agree = f"{solvable - row.num_better - row.num_given_up} of {row.num_tasks}"
    cells = [
        name,
        bugs,
        f"{row.peaks / max(1, solvable):.0f}",
        agree,
        row.num_better,
        row.num_given_up,
        f"{row.num_plays:,}",
        f"{row.num_able} of {row.num_tasks}",
        f"{row.num_readers_solved} of {row.num_readers:,}",
        f"{row.num_rewriting_solved} of {row.num_able}",
        f"{1000 * row.family_s / row.num_tasks:.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


HEADS = (
    "set",
    "bugs",
    "least peak, mean",
    "agree",
    "better plan found",
    "given up",
    "plans played",
    "tasks with windows that need a rewrite",
    "readers that solve in one",
    "rewriting script solves",
    "CPU-ms per task",
)


def main() -> int:
    """Measure all sets, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "tiny.yaml")
    parser.add_argument("--tokenizer", type=Path, help="folder with a model's tokenizer")
    parser.add_argument("--most", type=int, default=500, help="tasks of each number of bugs")
    parser.add_argument("--most-reads", type=int, default=6, help="reads of a plan, at most")
    parser.add_argument("--out", type=Path, help="where to write the table as Markdown")
    asked, overrides = parser.parse_known_args()
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    print("\n".join(lines))
    is_sound = True
    for folder in asked.sets:
        fixed = ["--tasks.dir", str(folder), "--run.cache", str(default_cache())]
        settings = load_settings(asked.config, [*fixed, *overrides])
        tokenizer = (
            load_tokenizer(str(asked.tokenizer))
            if asked.tokenizer
            else new_tokenizer(settings, now=datetime.now().astimezone())
        )
        rows = measure(
            TaskStore.open(folder),
            settings,
            chat_format(tokenizer, settings),
            most=asked.most,
            most_reads=asked.most_reads,
        )
        for bugs, row in sorted(rows.items()):
            lines.append(describe(folder.name, bugs, row))
            print(lines[-1], flush=True)
            is_sound &= not row.num_better and not row.num_readers_solved
    if asked.out:
        title = f"# Least peaks against an exhaustive search, in the limits of {asked.config.name}"
        asked.out.write_text("\n".join([title, "", *lines, ""]), "utf-8")
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
