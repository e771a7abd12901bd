"""The weight of cost in the advantage, and the controller that raises and lowers it.

`fixed` keeps the configured weight. `controlled` keeps it over an onset window, then raises it
while the policy solves as much as at its best, less a tolerance, and lowers it when it does not: an
integral controller in ln w. Its best is the best mean over 50 steps, so a rise gives no credit that
a later fall would have to use up before the weight comes down, and the luck of a few steps is no
best (over 10 it was: 75 to 89 % of the steps of a constant policy were flagged). The weight rises
by at most 1 % per step and falls by up to 5 %. Simulated beside the rule before it, whose reference
was the onset's mean, in `benchmarks/cost_weight.py`.

A guard halves either when evaluations on the same dev tasks drop (`train/rl/dev_evaluation.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final, Literal

from envs.records import Episode
from rewards.intervals import group_by_task
from rewards.outcome import is_solved

CostWeightKind = Literal["fixed", "controlled"]

ONSET_STEPS: Final = 10
ONSET_EPISODES: Final = 2000
MEMORY: Final = 10
"""Steps whose mean pass rate the controller compares with the reference."""
LONG_MEMORY: Final = 50
"""Steps whose mean pass rate may become the reference."""
TOLERANCE: Final = 0.02
"""Loss of pass rate that is paid for cheaper episodes, in share of episodes."""
GAIN: Final = 0.5
ERRORS: Final = (-0.1, 0.02)
"""Least and largest error that counts: slow to raise the weight, quick to lower it."""
BOUNDS: Final = (0.03, 1.0)
LEAST_DROP: Final = 0.02
NUM_DROPS_TO_STOP: Final = 2


@dataclass(frozen=True, kw_only=True)
class CostWeightController:
    """The weight of the cost channel for the next step, and what the controller remembers.

    A frozen value: `controller = controller.after_step(...)`; replaying saved steps rebuilds it.
    """

    kind: CostWeightKind
    weight: float
    pass_rates: tuple[float, ...] = ()
    num_episodes: int = 0
    reference: float | None = None

    def after_step(self, *, pass_rate: float, num_episodes: int) -> "CostWeightController":
        """Return the controller after a step with this pass rate over so many episodes.

        `ln w <- ln w + 0.5*clip(pass_10 - (ref - 0.02), -0.1, 0.02)`, w within [0.03, 1], `ref` the
        largest `pass_50` since the onset.
        """
        if self.kind == "fixed":
            return self
        rates = (*self.pass_rates, pass_rate)
        seen = self.num_episodes + num_episodes
        if self.reference is None:
            settled = len(rates) >= ONSET_STEPS and seen >= ONSET_EPISODES
            reference = fmean(rates) if settled else None
            return replace(self, pass_rates=rates, num_episodes=seen, reference=reference)
        rates = rates[-LONG_MEMORY:]
        reference = max(self.reference, fmean(rates))
        error = fmean(rates[-MEMORY:]) - (reference - TOLERANCE)
        (least, largest), (low, high) = ERRORS, BOUNDS
        step = GAIN * max(least, min(largest, error))
        weight = max(low, min(high, self.weight * math.exp(step)))
        return replace(
            self, weight=weight, pass_rates=rates, num_episodes=seen, reference=reference
        )

    def halved(self) -> "CostWeightController":
        """Return the controller after the guard saw a drop."""
        return replace(self, weight=self.weight / 2)


@dataclass(frozen=True, kw_only=True)
class Drop:
    """How much less is solved than before on the same tasks, in share of episodes."""

    mean: float
    standard_error: float

    @property
    def is_real(self) -> bool:
        """Beyond 2 points and beyond 2 standard errors."""
        return self.mean > max(LEAST_DROP, 2 * self.standard_error)


def paired_drop(before: Sequence[Episode], after: Sequence[Episode]) -> Drop:
    """Compare two evaluations task by task; tasks not scorable in both are left out."""
    first, second = group_by_task(before), group_by_task(after)
    shared = [task for task in first if task in second]
    drops = [fmean(map(is_solved, first[t])) - fmean(map(is_solved, second[t])) for t in shared]
    num, mean = len(drops), fmean(drops) if drops else 0.0
    variance = math.fsum((drop - mean) ** 2 for drop in drops) / max(1, num - 1)
    return Drop(mean=mean, standard_error=math.sqrt(variance / max(1, num)))
