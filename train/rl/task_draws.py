"""Which tasks a step plays: in passes, or drawn towards those that this run solves half the time.

Everything follows from run seed, step and what was counted of the steps before, so a resumed run
and every process draw the same.

The curriculum weighs a task by the variance of its outcome that its counts let expect, with a
uniform prior on the solve rate: with a = 1 + solved and b = 1 + failed, E[p (1 - p)] is
a b / ((a + b) (a + b + 1)). A task of which nothing is known weighs 1/6, one solved half the time
up to 1/4, one that failed 8 times of 8 weighs 0.08 (learnability, arXiv 2502.12272). Nothing is
ever shut out: a task that seems hopeless comes back, more and more seldom.

Not covered: tasks that were never played are alike, so it says little before tasks come back; and
what early policies did counts like what later ones do.

Tests: tests/train/rl/test_task_draws.py.
"""

import math
import random
from collections.abc import Collection, Mapping, Sequence

from rewards.solves import Solves
from train.config.settings import Settings
from train.rollouts.requests import draw_seed


def list_in_passes(task_ids: Sequence[str], *, start: int, num: int, seed: int) -> list[str]:
    """Return `num` tasks from place `start` of endless passes, each in an order drawn anew."""
    size, found = len(task_ids), []
    for number in range(start // size, -(-(start + num) // size)):
        order = random.Random(f"{seed}/{number}").sample(task_ids, size)
        found += order[max(0, start - number * size) : start + num - number * size]
    return found


def draw_step(
    settings: Settings, task_ids: Sequence[str], *, step: int, solves: Mapping[str, Solves]
) -> list[str]:
    """Return the tasks of one step, one per group of all processes.

    Args:
        settings: The experiment.
        task_ids: All tasks to train on.
        step: Which step, from 0.
        solves: What this run has counted so far; only a curriculum looks.
    """
    num, seed = settings.grpo.groups_per_step, settings.run.seed
    if not settings.grpo.curriculum:
        return list_in_passes(task_ids, start=step * num, num=num, seed=seed)
    found: list[str] = []
    while len(found) < num:  # in a set smaller than a step a task comes again
        rng = random.Random(draw_seed(seed, "curriculum", step, len(found)))
        found += _draw_weighted(task_ids, solves, num=num - len(found), rng=rng)
    return found


def draw_further(
    settings: Settings,
    task_ids: Sequence[str],
    *,
    step: int,
    num: int,
    played: Collection[str],
    solves: Mapping[str, Solves],
) -> list[str]:
    """Return up to `num` tasks that the step has not played, fewer only if there are no more."""
    rest = [task_id for task_id in task_ids if task_id not in played]
    rng = random.Random(draw_seed(settings.run.seed, "further", step, len(played)))
    known = solves if settings.grpo.curriculum else {}
    return _draw_weighted(rest, known, num=num, rng=rng)


def weigh_task(solves: Solves) -> float:
    """Return the expected variance of a task's outcome, from 0 to 1/4; see the module."""
    a, b = 1 + solves.solved, 1 + solves.samples - solves.solved
    return a * b / ((a + b) * (a + b + 1))


def _draw_weighted(
    task_ids: Sequence[str], solves: Mapping[str, Solves], *, num: int, rng: random.Random
) -> list[str]:
    """Draw without replacement by weight w: the largest ln(u) / w (Efraimidis, Spirakis, 2006)."""
    unknown = Solves(0, 0)
    keys = [
        math.log(1.0 - rng.random()) / weigh_task(solves.get(task_id, unknown))
        for task_id in task_ids
    ]
    places = sorted(range(len(task_ids)), key=lambda place: keys[place], reverse=True)
    return [task_ids[place] for place in places[:num]]
