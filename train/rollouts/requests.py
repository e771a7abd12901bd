"""What is to be played: tasks, groups, windows and seeds, drawn alike by every process.

    requests = draw_requests(settings, task_ids, stage="grpo", step=0, group_size=8, window_of=draw)

A group's episodes share task, window and every random draw but the sampling.

Tests: tests/train/rollouts/test_windows.py.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envs.context.strategies import draw_thresholds
from envs.files import hash_text
from envs.records import Thresholds
from train.config.settings import Settings

DrawWindow = Callable[[str, random.Random], int]
"""Returns the window (tokens) of a group of this task, drawn with this generator."""


@dataclass(frozen=True)
class EpisodeRequest:
    """One episode to play."""

    task_id: str
    group_id: str
    sample_index: int
    window_tokens: int
    seed: int


def draw_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts, such as (run seed, step, task, sample)."""
    return int(hash_text("/".join(map(str, parts)))[:16], 16) >> 1


def draw_requests(
    task_ids: Sequence[str],
    *,
    seed: int,
    window_of: DrawWindow,
    stage: str,
    step: int = 0,
    group_size: int = 1,
    first_group: int = 0,
) -> list[EpisodeRequest]:
    """Return the requests of one step, group after group.

    Windows and seeds depend on run seed, stage, step, place of the group and sample, not on the
    rank that plays it.

    Args:
        task_ids: A task per group.
        seed: Of the run.
        window_of: Draws the window of a group.
        stage: What they are for.
        step: Of the stage.
        group_size: Episodes per group.
        first_group: Place of the first one in its step.
    """
    requests = []
    for place, task_id in enumerate(task_ids, start=first_group):
        drawn = random.Random(draw_seed(seed, "window", stage, step, place, task_id))
        window = window_of(task_id, drawn)
        requests += [
            EpisodeRequest(
                task_id=task_id,
                group_id=f"{stage}/{step}/{place}",
                sample_index=index,
                window_tokens=window,
                seed=draw_seed(seed, stage, step, place, task_id, index),
            )
            for index in range(group_size)
        ]
    return requests


def draw_thresholds_of(request: EpisodeRequest, settings: Settings) -> Thresholds | None:
    """Draw the thresholds of a request's group: equal for all that have its group and task."""
    context, seed = settings.context, settings.run.seed
    return draw_thresholds(
        context.strategy,
        fill=context.fill_threshold,
        keep_last=context.keep_last,
        evict_batch=context.evict_batch,
        rng=random.Random(draw_seed(seed, "thresholds", request.group_id, request.task_id)),
    )
