"""Intervals over training seeds: what a recipe does, not what one trained policy does.

Trained again with another seed, a recipe gives another policy, and policies differ by more than
their tasks explain. So seeds are the outer unit. Each of S seeds gives one value x_s (a pass rate,
a paired difference, the logarithm of a ratio), and the interval is that of Student's t,

    mean(x) +- t * sd(x) / sqrt(S),    t the 97.5 % quantile at S - 1 degrees of freedom,

12.7, 4.3 and 3.2 for 2, 3 and 4 seeds (Student, Biometrika 6, 1908). A bootstrap over so few seeds
is too narrow: of 3 seeds it covers about 75 % where it says 95 (simulated in the tests). The
seeds play the same tasks, so an unlucky draw of tasks is common to all x_s and does not show in
sd(x); the interval over tasks (`rewards/intervals.py`) is added to it by squares, each side apart:

    low = x - sqrt((x - low_seeds)^2 + (x_pooled - low_tasks)^2),    high alike

(Zou and Donner, Statistics in Medicine 27, 2008). One seed has no such interval: what it gets is
the one over tasks, of one trained policy. State the number of seeds beside every interval.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from envs.records import Episode
from rewards.intervals import Estimate, PairedDifference, paired_difference, share_of_the_way

Pair = tuple[Sequence[Episode], Sequence[Episode]]


def t_interval(values: Sequence[float]) -> Estimate:
    """Return the mean of one value per seed with its t interval; of one value, without."""
    num = len(values)
    if num == 0:
        return Estimate(value=None, ci95=(None, None))
    mean = statistics.fmean(values)
    if num == 1:
        return Estimate(value=mean, ci95=(None, None))
    margin = t_quantile(num - 1) * statistics.stdev(values) / math.sqrt(num)
    return Estimate(value=mean, ci95=(mean - margin, mean + margin))


def t_quantile(degrees: int) -> float:
    """Return t with P(|T| < t) = 0.95, T of Student's distribution with so many degrees.

    By halving the angle atan(t/sqrt(degrees)), in which the probability is a finite sum
    (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (low, angle) if _probability_within(angle, degrees) > 0.95 else (angle, high)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def over_seeds(
    of_seeds: Sequence[float | None],
    over_tasks: Estimate,
    *,
    is_ratio: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Return the estimate over seeds, with the error of the tasks that they share.

    Args:
        of_seeds: One value per seed; None where it is undefined, which leaves the whole undefined.
        over_tasks: The same quantity of all seeds pooled, with its interval over tasks.
        is_ratio: Positive and compared by factors: all is done with logarithms, and the value is
            the geometric mean.
        within: What the quantity can be; Student's t knows no end, and bounds are cut to it.
    """
    if len(of_seeds) == 1:
        return over_tasks
    known = [value for value in of_seeds if value is not None]
    if not known or len(known) < len(of_seeds) or over_tasks.value is None:
        return Estimate(value=None, ci95=(None, None))
    into, back = (_log, math.exp) if is_ratio else (float, float)
    seeds = t_interval([into(value) for value in known])
    center, pooled = seeds.value, into(over_tasks.value)
    assert center is not None, "there are values"

    def bound(side: int) -> float | None:
        of_seed, of_tasks = seeds.ci95[side], over_tasks.ci95[side]
        if of_seed is None or of_tasks is None:
            return None
        margin = math.hypot(center - of_seed, pooled - into(of_tasks))
        return min(max(back(center + (margin if side else -margin)), within[0]), within[1])

    return Estimate(value=back(center), ci95=(bound(0), bound(1)))


def paired_over_seeds(pairs: Sequence[Pair], *, seed: int = 0) -> PairedDifference:
    """Compare two recipes, each trained with several seeds, on the tasks that both played.

    Args:
        pairs: Per seed the episodes of the first and of the second policy.
        seed: Of the bootstrap over tasks.
    """
    each = [paired_difference(first, second, seed=seed) for first, second in pairs]
    first, second = ([episode for pair in pairs for episode in pair[side]] for side in (0, 1))
    pooled = paired_difference(first, second, seed=seed)
    return replace(
        pooled,
        num_seeds=len(pairs),
        pass_rate_difference=over_seeds(
            [found.pass_rate_difference.value for found in each],
            pooled.pass_rate_difference,
            within=(-1.0, 1.0),
        ),
        tokens_per_solved_ratio=over_seeds(
            [found.tokens_per_solved_ratio.value for found in each],
            pooled.tokens_per_solved_ratio,
            is_ratio=True,
        ),
        peak_context_ratio=over_seeds(
            [found.peak_context_ratio.value for found in each],
            pooled.peak_context_ratio,
            is_ratio=True,
        ),
    )


def share_of_the_way_over_seeds(
    pairs: Sequence[Pair], goal: Sequence[Episode], *, seed: int = 0
) -> Estimate:
    """Return `share_of_the_way` from the first policies to a goal that needs no training."""
    each = [share_of_the_way(first, second, goal, seed=seed).value for first, second in pairs]
    first, second = ([episode for pair in pairs for episode in pair[side]] for side in (0, 1))
    return over_seeds(each, share_of_the_way(first, second, goal, seed=seed))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _probability_within(angle: float, degrees: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for factor in range(2 + odd, degrees - 1, 2):
        term *= cosine**2 * (factor - 1) / factor
        total += term
    return (angle + sine * total) * 2 / math.pi if odd else sine * total
