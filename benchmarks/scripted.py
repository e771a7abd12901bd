"""Scripted policies on long generated tasks, in windows in which nobody solves without a rewrite.

What `strategies.py` and `ablation.py` share. A cell is a strategy, a habit (`envs/habits/`), a
length, and what is taken away from the habit; all cells of a length play the same tasks in the same
windows. The window of a task is drawn between the least in which a plain rewriting script solves it
and the least in which some reader does without a rewrite (`envs/readers/least_peak.py`).

Episodes are played in this process. One is solved if it submits exactly the files of gold, which
the gate of every task has graded (benchmarks/long_tasks.py). Scripts know the repair and edit only
what they have seen; what they show is what a way of working costs, not what a model learns.
"""

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.any_project import ROOT
from benchmarks.long_tasks import LENGTHS, LIMITS, make_chat
from benchmarks.measuring import Row, Spec, collect
from envs.context.strategies import draw_thresholds
from envs.environment import Environment, EpisodeMetadata
from envs.habits.options import HABITS, ScriptOptions, leave_out
from envs.policies import ScriptedPolicy, make_script
from envs.prompts import system_prompt
from envs.readers.least_peak import measure_least_peak
from envs.records import Behaviour, Episode, Outcome, StopReason, Strategy
from envs.rendering import ChatFormat
from envs.sources.synthetic import DEFAULTS, SyntheticSettings, generate
from envs.tasks.store import BuiltTask
from envs.tasks.validate import apply_gold
from envs.tools import NAMES, list_tools
from rewards.cost import (
    billed_tokens,
    num_automatic_rewrites,
    num_compactions,
    num_evictions,
    peak_context,
)
from rewards.discipline import discipline_means
from rewards.intervals import Totals
from rewards.outcome import is_solved
from train.config.settings import ContextSettings

CONTEXT = ContextSettings()  # thresholds are drawn between its bounds
OPTIONS = {habit.name: habit.options for habit in HABITS}


@dataclass(frozen=True)
class LongTasks:
    """The tasks of one length that have windows which need a rewrite.

    Attributes:
        built: The tasks.
        windows: Of each, the window in which it is played (tokens).
        least: Of each, the least window in which some reader solves without a rewrite.
        num_asked: Tasks that were looked at.
    """

    built: list[BuiltTask]
    windows: list[int]
    least: list[int]
    num_asked: int


@dataclass
class Arena:
    """Plays cells, and keeps what they gave.

    Attributes:
        num_tasks: Of each length, those included that have no such window.
        kept: A file with a row a line, as `collect` reads it.
        budget_s: Wall seconds after which nothing new is begun.
    """

    num_tasks: int
    kept: Path
    budget_s: float
    _tasks: dict[int, LongTasks] = field(default_factory=dict)

    @cached_property
    def chat(self) -> ChatFormat:
        """The tiny model's format."""
        return make_chat(self.sizes)

    @property
    def sizes(self) -> SyntheticSettings:
        """Of the tasks, as in benchmarks/long_tasks.py."""
        return replace(DEFAULTS, num_functions=(2, 3))

    def tasks(self, length: int) -> LongTasks:
        """Return the tasks of a length; their windows are measured once."""
        if length not in self._tasks:
            asked = replace(self.sizes, length=(length,))
            built = list(generate(self.num_tasks, split="test", seed=0, settings=asked))
            spec = {"windows": length, "tasks": self.num_tasks}
            (row,) = collect(
                [spec],
                lambda _: {"drawn": [self._draw_window(task) for task in built]},
                kept=self.kept,
                describe=lambda row: f"windows of length {length}",
            )
            able = [(task, drawn) for task, drawn in zip(built, row["drawn"], strict=True) if drawn]
            self._tasks[length] = LongTasks(
                [task for task, _ in able],
                [window for _, (window, _) in able],
                [least for _, (_, least) in able],
                len(built),
            )
        return self._tasks[length]

    def measure(self, specs: Sequence[Spec]) -> list[Row]:
        """Return the rows of the cells that were played by now, in order."""
        return collect(
            specs,
            self._measure_cell,
            kept=self.kept,
            budget_s=self.budget_s,
            describe=lambda row: (
                f"{describe(row['spec'])}: {fmean(row['solved']):.2f} solved, "
                f"{row['seconds']:.0f} s"
            ),
        )

    def spec(
        self,
        strategy: Strategy,
        habit: str,
        *,
        length: int,
        without: Sequence[Behaviour] = (),
    ) -> Spec:
        """Return what names a cell."""
        found: dict[str, Any] = {"strategy": strategy, "habit": habit, "length": length}
        return {**found, "without": list(without), "tasks": self.num_tasks}

    def play(self, task: BuiltTask, window: int, spec: Spec) -> Episode:
        """Play one episode of a cell."""
        strategy, without = spec["strategy"], spec["without"]
        limits = replace(LIMITS, window_tokens=window)
        drawn = random.Random(f"thresholds/{task.public.id}")  # the same for all cells
        environment = Environment(
            task.public,
            task.workspace,
            chat=self.chat,
            system=system_prompt("none", strategy, example=self.chat.example),
            limits=limits,
            strategy=strategy,
            thresholds=draw_thresholds(
                strategy,
                fill=CONTEXT.fill_threshold,
                keep_last=CONTEXT.keep_last,
                evict_batch=CONTEXT.evict_batch,
                rng=drawn,
            ),
            without=without,
        )
        script = make_script(
            "careful",
            task=task.public,
            hidden=task.hidden,
            files=dict(task.workspace),
            chat=self.chat,
            options=options_of(strategy, spec["habit"], without),
            max_new_tokens=limits.max_new_tokens,
        )
        policy = ScriptedPolicy(script, chat=self.chat, max_new_tokens=limits.max_new_tokens)
        environment.play_out(policy.next_sample)
        return _record(environment, task, policy=spec["habit"])

    def _measure_cell(self, spec: Spec) -> Row:
        began, tasks = time.monotonic(), self.tasks(spec["length"])
        pairs = zip(tasks.built, tasks.windows, strict=True)
        episodes = [self.play(task, window, spec) for task, window in pairs]
        return {
            "solved": [int(is_solved(each)) for each in episodes],
            "billed": list(map(billed_tokens, episodes)),
            "peaks": list(map(peak_context, episodes)),
            "stops": [each.stop_reason.value for each in episodes],
            "own": fmean(num_evictions(each) + num_compactions(each) for each in episodes),
            "automatic": fmean(map(num_automatic_rewrites, episodes)),
            "discipline": discipline_means(episodes),
            "seconds": time.monotonic() - began,
        }

    def _draw_window(self, task: BuiltTask) -> tuple[int, int] | None:
        """Return a window that needs a rewrite, and the least that needs none; None if none does.

        System prompts are equal under all strategies: the tiny model's names no tools.
        """
        peak = measure_least_peak(
            task.public,
            task.hidden,
            task.workspace,
            chat=self.chat,
            system=system_prompt("none", example=self.chat.example),
            limits=LIMITS,
        )
        if peak.window is None or peak.floor is None or peak.floor >= peak.window:
            return None
        rng = random.Random(f"window/{task.public.id}")
        return rng.randint(peak.floor, peak.window - 1), peak.window


def options_of(strategy: Strategy, habit: str, without: Sequence[Behaviour] = ()) -> ScriptOptions:
    """Return how a habit works where a strategy has no tools for it, or some are taken away."""
    missing = {*NAMES, *without}.difference(list_tools(strategy, without))
    return leave_out(OPTIONS[habit], missing)  # type: ignore[index]


def list_habits(strategy: Strategy) -> dict[str, list[str]]:
    """Return the habits that differ under a strategy, each with those that work just like it."""
    found: dict[ScriptOptions, list[str]] = {}
    for habit in OPTIONS:
        found.setdefault(options_of(strategy, habit), []).append(habit)
    return {names[0]: names[1:] for names in found.values()}


def describe(spec: Spec) -> str:
    """Return the name of a cell."""
    without = "".join(f" -{each}" for each in spec["without"])
    return f"{spec['length']} modules, {spec['strategy']}, {spec['habit']}{without}"


def sum_up(row: Mapping[str, Any]) -> Totals:
    """Return the sums of a cell by task: each is played once."""
    solved, billed, peaks = (
        np.array(row[name], dtype=np.float64) for name in ("solved", "billed", "peaks")
    )
    return Totals(num_samples=np.ones_like(solved), num_solved=solved, billed=billed, peaks=peaks)


def parse(about: str | None, *, name: str) -> argparse.Namespace:
    """Return what a command was asked for; `name` is that of its files."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=200, help="of each length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2, 4], choices=LENGTHS)
    rows, out = ROOT / f".cache/{name}.jsonl", ROOT / f"benchmarks/results/{name}.md"
    parser.add_argument("--rows", type=Path, default=rows, help="where cells are kept")
    parser.add_argument("--minutes", type=float, default=170, help="nothing new is begun after")
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


def describe_tasks(arena: Arena, lengths: Sequence[int]) -> list[str]:
    """Return what was played, a line for each length."""
    lines = []
    for length in lengths:
        tasks = arena.tasks(length)
        lines.append(
            f"- {length} modules: {len(tasks.built)} of {tasks.num_asked} tasks have windows that "
            f"need a rewrite; window {fmean(tasks.windows):,.0f} tokens on average, least without "
            f"a rewrite {fmean(tasks.least):,.0f}"
        )
    return lines


def _record(environment: Environment, task: BuiltTask, *, policy: str) -> Episode:
    """Return the episode, judged by whether it submitted the files of gold."""
    outcome = None
    if environment.stop_reason is StopReason.SUBMITTED:
        rate = float(environment.workspace.files == apply_gold(task))
        outcome = Outcome(
            fail_to_pass_rate=rate, pass_to_pass_rate=1.0, sandbox_level="compared with gold"
        )
    metadata = EpisodeMetadata(
        group_id=task.public.id,
        sample_index=0,
        seed=0,
        policy=policy,
        policy_version=0,
        reference_cost=0.0,
        needs_rewrite=True,
        gold_spans=task.hidden.gold_spans,
    )
    return environment.record(metadata, outcome=outcome)
