"""From the episodes of one group to one advantage per episode.

Correctness and cost are two channels. The outcome channel compares an episode with its group; the
cost channel compares solved episodes with each other only, so being cheap never makes up for not
solving. Groups, baselines and shares count episodes, never rows: cutting an episode into more
segments changes nothing here (invariant 4). No division by a standard deviation: in a group where
all solve it would blow up any cost difference to the same size (Dr. GRPO, arXiv 2503.20783; DDCA,
arXiv 2602.02099). The advantages of a group sum to 0, and no episode gains by adding tokens; what
that rules out stands in docs/reward.md. Symbols: o outcome, C cost in tokens, G' scorable episodes,
S the solved among them, rho = |S|/G'.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from envs.errors import UserError
from envs.records import Episode, Score
from rewards import cost as meter
from rewards import outcome as grades
from rewards.cost import PRESETS, CostPreset
from rewards.outcome import OutcomeKind
from rewards.reading import count_offences

Method = Literal["default", "additive", "multiplicative", "outcome_only", "zscore"]


class Advantage(Protocol):
    """A form of the advantage from elsewhere: `reward.advantage: package.module:function`."""

    def __call__(
        self, episodes: Sequence[Episode], *, scores: Sequence[Score], cost_weight: float
    ) -> Sequence[float]:
        """Return one advantage per episode, which is taken as it is.

        Args:
            episodes: The scorable episodes of one group, at least two.
            scores: Their outcome, whether solved, and cost in tokens, as `reward.outcome` and
                `reward.cost` say; advantages are still 0.
            cost_weight: The pressure on cost in this step.
        """
        ...


MIN_SHARE_OF_OUTCOME: Final = 0.25
"""A solver in a mixed group keeps at least this share of its outcome advantage."""
MOST_PROCESS: Final = 0.2
"""Most that wasteful calls take from a solver (bound of the shaping term in SWE-AGILE's reward)."""
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
    process_weight: float = 0.0,
) -> list[Score]:
    """Score the G episodes of one group, in their order.

    `default`: `A = A_out + cost_weight*A_cost + A_process`; in a group with an unsolved episode all
    solvers keep `A >= 0.25*A_out`, and those above pay for those that would fall below.

    Args:
        episodes: All episodes of one task in one step.
        method: `default`, one of the ablations described at their functions below, or a function.
        outcome: `binary` (solved or not) or `graded` (rates of hidden tests).
        cost: Name of the weights of new, cached and sampled tokens.
        cost_weight: Weight of the cost channel; one unit of that channel is one doubling of cost.
        process_weight: What each wasteful call of a solver takes from it, `MOST_PROCESS` at most.

    Returns:
        One score per episode. Unscorable episodes have advantage 0 and are not part of the
        baseline; with fewer than two scorable ones all advantages are 0. `components` holds
        `A_out`, `A_cost` (before the weight), `A_process`, `rho` and `clamped` (1 where the floor
        acted).
    """
    scores = [_unweighed(episode, outcome, cost) for episode in episodes]
    kept = [index for index, score in enumerate(scores) if score.scorable]
    if len(kept) < 2:
        return scores
    members = [episodes[index] for index in kept]
    group = [scores[index] for index in kept]
    channels = _make_channels(method, members, group, cost_weight)
    process = _process_channel(members, group, process_weight)
    combined = [a + b for a, b in zip(channels.combined, process, strict=True)]
    final, clamped = _keep_floor(combined, group, channels)
    for place, index in enumerate(kept):
        components = {
            "A_out": channels.a_out[place],
            "A_cost": channels.a_cost[place],
            "A_process": process[place],
            "rho": _rho(group),
            "clamped": float(clamped[place]),
        }
        update = {"advantage": final[place], "components": components}
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


_Group = Sequence[Score]
"""The scores of the scorable episodes of a group."""


@dataclass(frozen=True, kw_only=True)
class _Channels:
    """What a method returns: `combined` before the floor, and its two parts."""

    combined: list[float]
    a_out: list[float]
    a_cost: list[float]
    keeps_floor: bool = False


def _make_channels(
    method: Method | Advantage, members: Sequence[Episode], group: _Group, weight: float
) -> _Channels:
    if callable(method):
        own = method(members, scores=group, cost_weight=weight)
        return _whole(group, _checked(own, num_episodes=len(group)))
    if method == "additive":
        return _additive(group, weight, reference=max(item.reference_cost for item in members))
    return _METHODS[method](group, weight)


def _process_channel(members: Sequence[Episode], group: _Group, weight: float) -> list[float]:
    """A_process = -rho*(q_i - mean_S q), q_i = min(0.2, weight * wasteful calls), over S only.

    Gated on solving: what failures are charged beside failing teaches to give up early.
    """
    process = [0.0] * len(group)
    solvers = [index for index, score in enumerate(group) if score.solved]
    if weight and len(solvers) >= 2:
        taken = [min(MOST_PROCESS, weight * count_offences(members[i]).total) for i in solvers]
        for index, value in zip(solvers, _centred(taken), strict=True):
            process[index] = -_rho(group) * value
    return process


def _keep_floor(
    combined: list[float], group: _Group, channels: _Channels
) -> tuple[list[float], list[bool]]:
    """Lift solvers of a mixed group to their floor; returns the advantages, and who was lifted.

    Where all solve, A_out is 0 and there is no floor: the cost channel acts alone. All solvers of a
    group have one A_out, as all have outcome 1, and their other channels sum to 0.
    """
    solvers = [index for index, score in enumerate(group) if score.solved]
    floor = MIN_SHARE_OF_OUTCOME * max((channels.a_out[index] for index in solvers), default=0.0)
    if not channels.keeps_floor or floor <= 0:
        return combined, [False] * len(combined)
    final = list(combined)
    lifted = _lift([combined[index] for index in solvers], floor=floor)
    for index, value in zip(solvers, lifted, strict=True):
        final[index] = value
    below = {index for index in solvers if combined[index] < floor}
    return final, [index in below for index in range(len(final))]


def _lift(values: list[float], *, floor: float) -> list[float]:
    """Return the closest values with the same sum, none of them below `floor`.

    Their mean must not be below it. The projection onto a simplex (Duchi et al., ICML 2008, figure
    1): what the low ones lack, the high ones give in equal shares, as far as they can.
    """
    falling = sorted(values, reverse=True)
    for num_above in range(len(falling), 0, -1):
        lack = math.fsum(floor - value for value in falling[num_above:])
        share = lack / num_above
        if falling[num_above - 1] - share >= floor:
            break
    return [max(floor, value - share) for value in values]


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


def _additive(group: _Group, weight: float, *, reference: float) -> _Channels:
    """Ablation: r_i = o_i - lambda*C_i for all episodes, A = (r_i - mean r)/(std r + 1e-4).

    lambda = cost_weight / reference cost, so that the weight has no unit. Not over the mean cost: a
    dear episode would make all tokens cheaper, and with them those that it adds.
    """
    penalty = weight / max(reference, 1.0)
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
        components=dict.fromkeys(("A_out", "A_cost", "A_process", "rho", "clamped"), 0.0),
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
