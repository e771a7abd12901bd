"""The weight of cost in the advantage, and the controller that raises and lowers it.

`fixed` keeps the configured weight. `controlled` keeps it over an onset window, takes the mean pass
rate of that window as the reference, then raises the weight while the policy solves as much as that
and lowers it when it does not: an integral controller in ln w, whose reference never follows the
policy. A controller on the best moving average flagged 75 to 89 % of the steps of a constant policy
(measured), which this form does not.

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
TOLERANCE: Final = 0.02
"""Loss of pass rate that is paid for cheaper episodes, in share of episodes."""
GAIN: Final = 0.5
LARGEST_ERROR: Final = 0.1
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

        `ln w <- ln w + 0.5*clip(pass_10 - (ref - 0.02), -0.1, 0.1)`, w within [0.03, 1].
        """
        if self.kind == "fixed":
            return self
        rates = (*self.pass_rates, pass_rate)
        seen = self.num_episodes + num_episodes
        if self.reference is None:
            settled = len(rates) >= ONSET_STEPS and seen >= ONSET_EPISODES
            reference = fmean(rates) if settled else None
            return replace(self, pass_rates=rates, num_episodes=seen, reference=reference)
        rates = rates[-MEMORY:]
        error = fmean(rates) - (self.reference - TOLERANCE)
        step = GAIN * max(-LARGEST_ERROR, min(LARGEST_ERROR, error))
        low, high = BOUNDS
        weight = max(low, min(high, self.weight * math.exp(step)))
        return replace(self, weight=weight, pass_rates=rates, num_episodes=seen)

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
