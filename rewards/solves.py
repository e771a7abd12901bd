"""How often each task was solved, and the pass@k that follows."""

from collections.abc import Iterable, Mapping
from math import comb
from typing import NamedTuple

from envs.records import Episode
from rewards.outcome import is_scorable, is_solved


class Solves(NamedTuple):
    """Scorable episodes of one task, and how many of them solved it."""

    samples: int
    solved: int


def count_solves(
    episodes: Iterable[Episode], *, before: Mapping[str, Solves] | None = None
) -> dict[str, Solves]:
    """Return the counts by task id, those of `before` included."""
    counts = dict(before or {})
    for episode in filter(is_scorable, episodes):
        samples, solved = counts.get(episode.task_id, Solves(0, 0))
        counts[episode.task_id] = Solves(samples + 1, solved + is_solved(episode))
    return counts


def pass_at_k(solves: Solves, k: int) -> float:
    """Return the chance that one of k samples solves the task, without bias.

    `1 - C(n - c, k) / C(n, k)` for c solved of n samples (arXiv 2107.03374, section 2.1).

    Raises:
        ValueError: There are fewer than k samples.
    """
    n, c = solves
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} samples")
    return 1 - comb(n - c, k) / comb(n, k)
