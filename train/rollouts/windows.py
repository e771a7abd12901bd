"""The window of a group: drawn between two sizes, or between two multiples of a task's least peak.

Below its least peak no scripted reader solves a task without a rewrite (`envs/readers/`), so such a
window needs `evict` or `compact`. That is measured under the prompt of `learned`, once, and holds
for all strategies alike. The prompt of `full_history` is shorter where it lists fewer tools: there
the same readers get by in a little less (`unaided`). Where windows are multiples, or a share of
them is asked for, none is drawn between the two, so one that needs a rewrite needs it under any
strategy; nor one in which a script that rewrites would not solve either, unless nothing else is
left. Absolute sizes alone are drawn as they stand.

With `context.needs_rewrite_share` that share of groups gets a window that needs a rewrite, as far
as the tasks of the split allow: a task has such windows only if rewriting saves a tenth on it.

Tests: tests/train/rollouts/test_windows.py.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from accelerate import PartialState

from train.config.settings import OfLeastPeak, Settings
from train.models.distributed import share, take_share
from train.rollouts.least_peaks import LeastPeaks, TaskWindows
from train.stages.progress import Progress
from train.stages.stage_log import say

_LEAST_SAVED = 0.1  # of a window, by rewriting: less is luck, as of an evict (`environment.py`)

Bounds = tuple[int, int]
"""Least and most tokens of a window; none lies between where the first is larger."""


@dataclass(frozen=True)
class Mixture:
    """How often windows need a rewrite.

    Attributes:
        chance: That a task with both kinds of windows gets one that needs a rewrite.
        share: What is then to be expected of all tasks.
        num_able: Tasks with windows that need a rewrite.
        num_tasks: All of them.
    """

    chance: float
    share: float
    num_able: int
    num_tasks: int


@dataclass
class Windows:
    """Draws windows as `context` asks.

    Attributes:
        settings: The experiment.
        peaks: What windows mean for a task.
        list_split: Returns the tasks of the split to which a task belongs.
    """

    settings: Settings
    peaks: LeastPeaks
    list_split: Callable[[str], Sequence[str]]
    _mixtures: dict[str, Mixture] = field(default_factory=dict)

    def draw(self, task_id: str, rng: random.Random) -> int:
        """Return a window (tokens) for a group of this task."""
        context, bounds = self.settings.context, self._bounds(task_id)
        share, asked = context.needs_rewrite_share, context.window_tokens
        if share is None and not isinstance(asked, OfLeastPeak):
            return rng.randint(*bounds)
        kinds = [each for each in self.split(task_id) if _holds(each)] or [bounds]
        if share is not None:
            is_above = rng.random() >= self.mixture(task_id).chance
            kinds = [kinds[-1 if is_above else 0]]
        sizes = [high - low + 1 for low, high in kinds]
        return rng.randint(*rng.choices(kinds, sizes)[0])

    def draw_kind(self, task_id: str, rng: random.Random, *, needs_rewrite: bool) -> int | None:
        """Return a window that needs a rewrite, or one that does not; None if there is none."""
        bounds = self.split(task_id)[0 if needs_rewrite else 1]
        return rng.randint(*bounds) if _holds(bounds) else None

    def needs_rewrite(self, task_id: str, window_tokens: int) -> bool:
        """Tell whether no scripted reader solves a task in such a window without a rewrite."""
        return window_tokens < self.peaks.of(task_id).least_peak

    def split(self, task_id: str) -> tuple[Bounds, Bounds]:
        """Return the windows of a task that need a rewrite under any prompt, and that need none."""
        (low, high), task = self._bounds(task_id), self.peaks.of(task_id)
        saves = 0 < task.floor <= (1 - _LEAST_SAVED) * task.unaided
        tight = (max(low, task.floor), min(high, task.unaided - 1)) if saves else (1, 0)
        return tight, (max(low, task.least_peak), high)

    def measure(self, task_ids: Sequence[str]) -> None:
        """Measure tasks that are yet to be measured, each process a part; called in all of them."""
        is_new = not all(map(self.peaks.knows, task_ids))
        with Progress(
            "least peaks",
            total=len(take_share(task_ids)),
            unit="tasks",
            enabled=is_new and PartialState().is_main_process,
        ) as progress:

            def measure_each(mine: Sequence[str]) -> list[TaskWindows]:
                found = []
                for task_id in mine:
                    found.append(self.peaks.of(task_id))
                    progress.advance()
                return found

            self.peaks.take(task_ids, share(task_ids, measure_each))

    def mixture(self, task_id: str) -> Mixture:
        """Return how the windows of a task's split are mixed; measures all of its tasks."""
        names = self.list_split(task_id)
        if names[0] not in self._mixtures:
            self.measure(names)
            kinds = [tuple(map(_holds, self.split(name))) for name in names]
            num_only, num_both = kinds.count((True, False)), kinds.count((True, True))
            wanted = (self.settings.context.needs_rewrite_share or 0.0) * len(names)
            chance = min(1.0, max(0.0, (wanted - num_only) / max(1, num_both)))
            share = (num_only + chance * num_both) / len(names)
            self._mixtures[names[0]] = Mixture(chance, share, num_only + num_both, len(names))
            if PartialState().is_main_process:
                say(
                    f"{share:.0%} of groups get a window that needs a rewrite, of "
                    f"{self.settings.context.needs_rewrite_share or 0:.0%} asked for; "
                    f"{num_only + num_both:,} of {len(names):,} tasks have one"
                )
        return self._mixtures[names[0]]

    def _bounds(self, task_id: str) -> Bounds:
        """Return the least and the largest window that the settings allow for a task."""
        asked = self.settings.context.window_tokens
        if not isinstance(asked, OfLeastPeak):
            return asked
        most, task = asked.at_most, self.peaks.of(task_id)
        peak = task.least_peak or task.floor or most
        floor = min(task.floor or peak, peak)
        low, high = (round(share * peak) for share in asked.of_least_peak)
        return min(most, max(floor, low)), min(most, max(floor, high))


def _holds(bounds: Bounds) -> bool:
    return bounds[0] <= bounds[1]
