"""From the episodes of one group to one advantage per episode.

Correctness and cost are two channels. The outcome channel compares an episode with its group; the
cost channel compares solved episodes with each other only, so being cheap never makes up for not
solving. Groups, baselines and shares count episodes, never rows: cutting an episode into more
segments changes nothing here (invariant 4). No division by a standard deviation: in a group where
all solve it would blow up any cost difference to the same size (Dr. GRPO, arXiv 2503.20783; DDCA,
arXiv 2602.02099). Symbols: o outcome, C cost in tokens, G' scorable episodes, S the solved among
them, rho = |S|/G'.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from envs.errors import UserError
from envs.records import Episode, Score
from rewards import cost as meter
from rewards import outcome as grades
from rewards.cost import PRESETS, CostPreset
from rewards.outcome import OutcomeKind

Method = Literal["default", "additive", "multiplicative", "outcome_only", "zscore"]


class Advantage(Protocol):
    """A form of the advantage from elsewhere: `reward.advantage: package.module:function`."""

    def __call__(
        self, episodes: Sequence[Episode], *, scores: Sequence[Score], cost_weight: float
    ) -> Sequence[float]:
        """Return one advantage per episode, before the cap on long failures.

        Args:
            episodes: The scorable episodes of one group, at least two.
            scores: Their outcome, whether solved, and cost in tokens, as `reward.outcome` and
                `reward.cost` say; advantages are still 0.
            cost_weight: The pressure on cost in this step.
        """
        ...


MIN_SHARE_OF_OUTCOME: Final = 0.25
"""A solver in a mixed group keeps at least this share of its outcome advantage."""
MIN_LOG_SPREAD: Final = math.log(1.1)
"""Floor of the standard deviation in `zscore`: costs within 10 % of each other are noise."""
STD_EPSILON: Final = 1e-4
"""Added to the standard deviation in `additive`, as in TRL's GRPO."""


def score_group(
    episodes: Sequence[Episode],
    *,
    method: Method | Advantage = "default",
    outcome: OutcomeKind = "binary",
    cost: CostPreset = "tokens",
    cost_weight: float = 0.5,
    sampled_cap: float | None = None,
) -> list[Score]:
    """Score the G episodes of one group, in their order.

    `default`: `A = A_out + cost_weight*A_cost`; in a group with an unsolved episode a solver with
    `A_out > 0` keeps `A >= 0.25*A_out`; then for negative A: `A <- A*min(1, sampled_cap/T_i)`, with
    T_i the tokens sampled over all segments (per-token losses are summed, so a long failure would
    weigh more).

    Args:
        episodes: All episodes of one task in one step.
        method: `default`, one of the ablations described at their functions below, or a function.
        outcome: `binary` (solved or not) or `graded` (rates of hidden tests).
        cost: Name of the weights of new, cached and sampled tokens.
        cost_weight: Weight of the cost channel; one unit of that channel is one doubling of cost.
        sampled_cap: L_cap in tokens, see `RunningCap`; None leaves long failures as they are.

    Returns:
        One score per episode. Unscorable episodes have advantage 0 and are not part of the
        baseline; with fewer than two scorable ones all advantages are 0. `components` holds `A_out`
        and `A_cost` (before the weight), `rho`, `clamped` (1 where the floor acted) and `damping`
        (the factor of the cap).
    """
    scores = [_unweighed(episode, outcome, cost) for episode in episodes]
    kept = [index for index, score in enumerate(scores) if score.scorable]
    if len(kept) < 2:
        return scores
    group = [scores[index] for index in kept]
    if callable(method):
        members = [episodes[index] for index in kept]
        own = method(members, scores=group, cost_weight=cost_weight)
        channels = _whole(group, _checked(own, num_episodes=len(group)))
    else:
        channels = _METHODS[method](group, cost_weight)
    for place, index in enumerate(kept):
        advantage = channels.combined[place]
        floor = MIN_SHARE_OF_OUTCOME * channels.a_out[place]
        # where all solve, A_out is 0 and there is no floor: the cost channel acts alone
        clamped = channels.keeps_floor and group[place].solved and floor > 0 and advantage < floor
        advantage = floor if clamped else advantage
        damping = 1.0
        if sampled_cap is not None and advantage < 0:
            damping = min(1.0, sampled_cap / max(meter.sampled_tokens(episodes[index]), 1))
        components = {
            "A_out": channels.a_out[place],
            "A_cost": channels.a_cost[place],
            "rho": _rho(group),
            "clamped": float(clamped),
            "damping": damping,
        }
        update = {"advantage": advantage * damping, "components": components}
        scores[index] = scores[index].model_copy(update=update)
    return scores


def mask_overlong(episodes: Sequence[Episode], scores: Sequence[Score]) -> list[Score]:
    """Mask episodes that ended at the turn or token limit: advantage 0, no loss on their tokens.

    Overlong filtering of DAPO (arXiv 2503.14476, section 3.4). They stay in the baseline that they
    were scored in, with their outcome of 0, so the others keep what they got; a group's advantages
    then sum to more than 0.
    """
    mask = {"advantage": 0.0, "masked": True}
    return [
        score.model_copy(update=mask) if episode.stop_reason in grades.OVERLONG_STOPS else score
        for episode, score in zip(episodes, scores, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class RunningCap:
    """L_cap = 3 x the running median of tokens sampled by solved episodes, as a frozen value.

    `cap.tokens` before a step, `cap = cap.updated(episodes)` after it. Plain fields, so that a
    checkpoint can hold it (`dataclasses.asdict`).
    """

    recent: tuple[int, ...] = ()
    """Tokens sampled by the last `CAP_MEMORY` solved episodes, oldest first."""

    @property
    def tokens(self) -> float | None:
        """L_cap in tokens; None until `CAP_WARM_UP` episodes were solved."""
        if len(self.recent) < CAP_WARM_UP:
            return None
        return CAP_FACTOR * statistics.median(self.recent)

    def updated(self, episodes: Sequence[Episode]) -> "RunningCap":
        """Return the cap that has also seen `episodes`, of which only the solved count."""
        new = tuple(meter.sampled_tokens(item) for item in episodes if grades.is_solved(item))
        return RunningCap(recent=(*self.recent, *new)[-CAP_MEMORY:])


CAP_FACTOR: Final = 3.0
CAP_WARM_UP: Final = 64
CAP_MEMORY: Final = 512
"""Solved episodes the median looks back on, so that it follows a policy that gets shorter."""


_Group = Sequence[Score]
"""The scores of the scorable episodes of a group."""


@dataclass(frozen=True, kw_only=True)
class _Channels:
    """What a method returns: `combined` before clamp and cap, and its two parts."""

    combined: list[float]
    a_out: list[float]
    a_cost: list[float]
    keeps_floor: bool = False


def _default(group: _Group, weight: float) -> _Channels:
    """A_cost = -rho*(d_i - mean_S d), d_i = clip((ln C_i - mean_S ln C)/ln 2, -1, 1), over S only.

    rho is DDCA's (arXiv 2602.02099): where little is solved there is little pressure on cost.
    """
    return _two_channels(group, weight, _doublings)


def _zscore(group: _Group, weight: float) -> _Channels:
    """Ablation: sigmoid of the z-scored log cost instead of d (DDCA, arXiv 2602.02099)."""
    return _two_channels(group, weight, _sigmoid_of_z)


def _outcome_only(group: _Group, weight: float) -> _Channels:
    """Ablation: A = A_out, cost is free."""
    return _whole(group, _outcome_channel(group))


def _additive(group: _Group, weight: float) -> _Channels:
    """Ablation: r_i = o_i - lambda*C_i for all episodes, A = (r_i - mean r)/(std r + 1e-4).

    lambda = cost_weight / mean C, so that the weight has no unit.
    """
    penalty = weight / max(_mean([score.cost for score in group]), 1.0)
    rewards = [score.outcome - penalty * score.cost for score in group]
    centred = _centred(rewards)
    spread = math.sqrt(_mean([value * value for value in centred]))
    return _whole(group, [value / (spread + STD_EPSILON) for value in centred])


def _multiplicative(group: _Group, weight: float) -> _Channels:
    """Ablation: r_i = o_i/(1 + cost_weight*C_i/mean_S C) if solved, else o_i; A = r_i - mean r."""
    typical = max(_mean([score.cost for score in group if score.solved] or [1.0]), 1.0)
    rewards = [
        score.outcome / (1.0 + weight * score.cost / typical) if score.solved else score.outcome
        for score in group
    ]
    return _whole(group, _centred(rewards))


_METHODS: Final[dict[Method, Callable[[_Group, float], _Channels]]] = {
    "default": _default,
    "additive": _additive,
    "multiplicative": _multiplicative,
    "outcome_only": _outcome_only,
    "zscore": _zscore,
}


def _two_channels(
    group: _Group, weight: float, measure: Callable[[list[float]], list[float]]
) -> _Channels:
    a_out = _outcome_channel(group)
    a_cost = [0.0] * len(a_out)
    solvers = [index for index, score in enumerate(group) if score.solved]
    if len(solvers) >= 2:
        measured = _centred(measure([math.log(max(group[i].cost, 1.0)) for i in solvers]))
        for index, value in zip(solvers, measured, strict=True):
            a_cost[index] = -_rho(group) * value
    combined = [out + weight * cost for out, cost in zip(a_out, a_cost, strict=True)]
    return _Channels(combined=combined, a_out=a_out, a_cost=a_cost, keeps_floor=True)


def _outcome_channel(group: _Group) -> list[float]:
    return _centred([score.outcome for score in group])


def _rho(group: _Group) -> float:
    return sum(score.solved for score in group) / len(group)


def _doublings(log_costs: list[float]) -> list[float]:
    return [max(-1.0, min(1.0, value / math.log(2.0))) for value in _centred(log_costs)]


def _sigmoid_of_z(log_costs: list[float]) -> list[float]:
    centred = _centred(log_costs)
    spread = max(math.sqrt(_mean([value * value for value in centred])), MIN_LOG_SPREAD)
    return [1.0 / (1.0 + math.exp(-value / spread)) for value in centred]


def _whole(group: _Group, combined: list[float]) -> _Channels:
    """Channels of a method without a cost channel: `A_cost` is what cost changed, A - A_out."""
    a_out = _outcome_channel(group)
    a_cost = [whole - part for whole, part in zip(combined, a_out, strict=True)]
    return _Channels(combined=combined, a_out=a_out, a_cost=a_cost)


def _checked(advantages: Sequence[float], *, num_episodes: int) -> list[float]:
    """Return what a function from elsewhere made; a number per episode, or the user's error."""
    if len(advantages) != num_episodes or not all(map(math.isfinite, advantages)):
        raise UserError(
            "the function of reward.advantage must return a finite number per episode",
            got=f"{list(advantages)} for {num_episodes} episodes",
            remedy="correct the function",
        )
    return [float(value) for value in advantages]


def _unweighed(episode: Episode, outcome: OutcomeKind, cost: CostPreset) -> Score:
    return Score(
        outcome=grades.outcome(episode, outcome),
        solved=grades.is_solved(episode),
        scorable=grades.is_scorable(episode),
        cost=meter.cost(episode, weights=PRESETS[cost]),
        advantage=0.0,
        components=dict.fromkeys(("A_out", "A_cost", "rho", "clamped"), 0.0) | {"damping": 1.0},
    )


def _mean(values: Sequence[float]) -> float:
    # fsum is exact, so the order of the episodes cannot change the result
    return math.fsum(values) / len(values)


def _centred(values: list[float]) -> list[float]:
    """Subtract the mean; equal values give exact zeros, which a rounded mean would not."""
    if min(values) == max(values):
        return [0.0] * len(values)
    mean = _mean(values)
    return [value - mean for value in values]
