"""95 % intervals by resampling tasks, for one policy and for two policies on the same tasks.

Samples of one task resemble each other, so tasks are drawn, with all their samples: percentile
bootstrap, 2,000 resamples, own seed. That speaks of these trained policies; what training once more
would change is in `rewards/seeds.py`. Where all or none is solved no resample differs, and the pass
rate gets the exact bound of so many tasks: 0 of 32 is at most 0.11. A difference that is the same
on every task gets an interval of width 0; read it with the number of tasks beside it. A ratio is
undefined where a resample solves nothing; such a resample counts as infinitely expensive, and a
bound that falls there is None. Shape suffixes: R resamples, K tasks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from envs.records import Episode
from rewards.cost import billed_tokens, peak_context
from rewards.outcome import is_scorable, is_solved

NUM_RESAMPLES: Final = 2000
LEVELS: Final = (2.5, 97.5)

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A point estimate with its 95 % interval; None where it is undefined."""

    value: float | None
    ci95: Interval


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Second policy against the first on the tasks both were scored on.

    Of one training seed the intervals are over tasks, of several over seeds (`rewards/seeds.py`).
    """

    num_tasks: int
    num_seeds: int = 1
    pass_rate_difference: Estimate
    """Pass rate of the second minus that of the first."""
    tokens_per_solved_ratio: Estimate
    """Tokens per solved of the second divided by that of the first."""
    peak_context_ratio: Estimate
    """Mean peak context of the second divided by that of the first."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the scorable samples of each task; all arrays have one entry per task."""

    num_samples: Floats
    num_solved: Floats
    billed: Floats
    peaks: Floats

    def pass_rate(self, weights_RK: Floats) -> Floats:
        """Pass rate of each resample."""
        return _ratio(weights_RK @ self.num_solved, weights_RK @ self.num_samples)

    def tokens_per_solved(self, weights_RK: Floats) -> Floats:
        """Billed tokens of all samples over the number solved, of each resample; inf if none is."""
        return _ratio(weights_RK @ self.billed, weights_RK @ self.num_solved)

    def peak_context(self, weights_RK: Floats) -> Floats:
        """Mean peak context of each resample."""
        return _ratio(weights_RK @ self.peaks, weights_RK @ self.num_samples)


def group_by_task(episodes: Sequence[Episode]) -> dict[str, list[Episode]]:
    """Scorable episodes by task id, in the order of the ids."""
    found: dict[str, list[Episode]] = {}
    for episode in episodes:
        if is_scorable(episode):
            found.setdefault(episode.task_id, []).append(episode)
    return dict(sorted(found.items()))


def sum_by_task(groups: Mapping[str, Sequence[Episode]], task_ids: Sequence[str]) -> Totals:
    """Sum up the samples of each of `task_ids`, in that order."""
    members = [groups[task_id] for task_id in task_ids]
    return Totals(
        num_samples=np.array([len(group) for group in members], dtype=np.float64),
        num_solved=np.array([sum(map(is_solved, group)) for group in members], dtype=np.float64),
        billed=np.array([sum(map(billed_tokens, group)) for group in members], dtype=np.float64),
        peaks=np.array([sum(map(peak_context, group)) for group in members], dtype=np.float64),
    )


def bootstrap(
    statistic: Callable[[Floats], Floats],
    *,
    num_tasks: int,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Estimate `statistic` on all tasks and on `num_resamples` draws of `num_tasks` tasks.

    Args:
        statistic: Maps weights of shape (R, K), how often each task was drawn, to R values; one
            that is no number (nan) is left out.
        num_tasks: K, the number of tasks drawn from and drawn.
        seed: Seed of the draws; policies with the same seed and K see the same draws.
        num_resamples: R.
    """
    if num_tasks == 0:
        return Estimate(value=None, ci95=(None, None))
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), num_resamples)
    value = float(statistic(np.ones((1, num_tasks)))[0])
    values = statistic(drawn.astype(np.float64))
    # undefined on all tasks: there is nothing to put an interval around
    if not math.isfinite(value):
        return Estimate(value=None, ci95=(None, None))
    values = values[~np.isnan(values)]
    # order statistics, because interpolation between a number and infinity is not a number
    low, high = (np.percentile(values, level, method="nearest") for level in LEVELS)
    return Estimate(value=value, ci95=(_finite(float(low)), _finite(float(high))))


def pass_rate_estimate(sums: Totals, *, num_tasks: int, seed: int) -> Estimate:
    """Estimate the pass rate by `bootstrap`; by the exact bound where all or none is solved.

    That bound is `1 - 0.025^(1/K)` from the end (Clopper and Pearson, Biometrika 26, 1934), with
    the K tasks for trials.
    """
    found = bootstrap(sums.pass_rate, num_tasks=num_tasks, seed=seed)
    if found.value not in (0.0, 1.0):
        return found
    bound = 1 - (LEVELS[0] / 100) ** (1 / num_tasks)
    return replace(found, ci95=(0.0, bound) if found.value == 0 else (1 - bound, 1.0))


def paired_difference(
    first: Sequence[Episode], second: Sequence[Episode], *, seed: int = 0
) -> PairedDifference:
    """Compare two policies on the tasks both were scored on, drawing the same tasks for both."""
    first_by, second_by = group_by_task(first), group_by_task(second)
    shared = [task_id for task_id in first_by if task_id in second_by]
    sums = (sum_by_task(groups, shared) for groups in (first_by, second_by))
    return compare_sums(*sums, seed=seed)


def compare_sums(first: Totals, second: Totals, *, seed: int = 0) -> PairedDifference:
    """Compare two policies by their sums over the same tasks, in the same order."""
    num_tasks = len(first.num_samples)

    def ratio(of: Callable[[Totals, Floats], Floats]) -> Estimate:
        return bootstrap(
            lambda weights: _quotient(of(second, weights), of(first, weights)),
            num_tasks=num_tasks,
            seed=seed,
        )

    return PairedDifference(
        num_tasks=num_tasks,
        pass_rate_difference=bootstrap(
            lambda weights: second.pass_rate(weights) - first.pass_rate(weights),
            num_tasks=num_tasks,
            seed=seed,
        ),
        tokens_per_solved_ratio=ratio(Totals.tokens_per_solved),
        peak_context_ratio=ratio(Totals.peak_context),
    )


def share_of_the_way(
    start: Sequence[Episode], end: Sequence[Episode], goal: Sequence[Episode], *, seed: int = 0
) -> Estimate:
    """(T_start - T_end)/(T_start - T_goal), T tokens per solved, on the tasks all three share."""
    groups = [group_by_task(episodes) for episodes in (start, end, goal)]
    shared = [key for key in groups[0] if key in groups[1] and key in groups[2]]
    first, last, ideal = (sum_by_task(group, shared) for group in groups)

    def share(weights: Floats) -> Floats:
        origin = first.tokens_per_solved(weights)
        with np.errstate(invalid="ignore"):
            gained = origin - last.tokens_per_solved(weights)
            possible = origin - ideal.tokens_per_solved(weights)
        return _quotient(gained, possible)

    return bootstrap(share, num_tasks=len(shared), seed=seed)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson, 1927, eq. 1); (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    z, share = NormalDist().inv_cdf(LEVELS[1] / 100), successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    out = np.full_like(numerator, np.inf)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; where that is no number (nothing solved on either side) count it as infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(numerator / denominator, nan=np.inf, posinf=np.inf, neginf=-np.inf)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
