"""What a user may plug in: a form of the advantage and a task source, and some that do not fit."""

from collections.abc import Iterator, Sequence

from envs.records import Episode, Score, Split
from envs.sources.synthetic import SyntheticSettings, generate_one
from envs.tasks.store import BuiltTask


def by_rank(
    episodes: Sequence[Episode], *, scores: Sequence[Score], cost_weight: float
) -> list[float]:
    """Solved above unsolved, then cheap above dear, `cost_weight` apart."""
    order = sorted(range(len(episodes)), key=lambda i: (not scores[i].solved, scores[i].cost))
    middle = (len(order) - 1) / 2
    return [cost_weight * (middle - order.index(i)) for i in range(len(order))]


def too_few(
    episodes: Sequence[Episode], *, scores: Sequence[Score], cost_weight: float
) -> list[float]:
    return [0.0]


def without_weight(episodes: Sequence[Episode], *, scores: Sequence[Score]) -> list[float]:
    return [0.0] * len(episodes)


def one_function(num_tasks: int, *, split: Split, seed: int) -> Iterator[BuiltTask]:
    """Projects of a single function, without end."""
    sizes = SyntheticSettings(num_modules=(1, 1), num_functions=(1, 1))
    index = 0
    while True:
        yield generate_one(index, split=split, seed=seed, settings=sizes)
        index += 1


def always_train(num_tasks: int, *, split: Split, seed: int) -> Iterator[BuiltTask]:
    yield from one_function(num_tasks, split="train", seed=seed)


NOT_A_FUNCTION = 3
