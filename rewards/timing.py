"""Is the context rewritten when that pays? Numbers of forks, with intervals over tasks.

A fork is a turn of an episode that was played on from there several times: with a rewrite now, and
without one. Its value v is the difference of the means of the two in what the reward gives: the
worth of rewriting at this turn, all later turns left to the policy. Symbols: w how many turns a
fork stands for, p the probability with which a rule rewrites there (of the policy 1 where it did,
else 0). Of a rule

    frequency   sum w*p / sum w
    gain        sum w*p*v / sum w                              per turn at which one could rewrite
    timing      mean of v where it rewrites - mean of v where it does not, weighted by w*p, w*(1-p)

A rule at random rewrites with one p everywhere: its timing is 0, whatever its frequency, and its
gain p times the mean of v. One that never rewrites gains 0. `remaining < x` rewrites where fewer
than x tokens are left. All rules are judged by the same forks, one rewrite at a time: what several
in one episode would be worth together is not the sum.

Intervals (95 %) resample tasks with all their forks; resamples in which a number has no value are
left out. Shape suffixes: R resamples, K tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from rewards.intervals import Estimate, Floats, bootstrap
from rewards.seeds import over_seeds

FILLS: Final = (0.0, 0.25, 0.5, 0.75)
"""Where the bins by fill begin."""
TURNS_LEFT: Final = (2, 3, 5, 9, 17)
"""Where the bins by turns left begin: each about twice as wide as the one before."""
NUM_THRESHOLDS: Final = 9
"""Rules `remaining < x` that are tried: x at the deciles of what was left."""

Rule = Callable[["Fork"], float]
"""Returns the probability with which a rule rewrites at a fork."""


@dataclass(frozen=True, kw_only=True)
class Fork:
    """One turn, and what a rewrite there was worth.

    Attributes:
        task_id: The task.
        fill: Share of what a view may hold that it held.
        remaining_tokens: The rest of it.
        turns_left: This one included.
        rewrote: Whether the policy rewrote there.
        needs_rewrite: Whether the window needs a rewrite.
        value: In units of the reward.
        solved: Difference of the pass rates.
        tokens: Difference of the mean billed tokens.
        by_kind: `value` with rewrites of one kind alone.
        weight: How many turns it stands for.
    """

    task_id: str
    fill: float
    remaining_tokens: int
    turns_left: int
    rewrote: bool
    needs_rewrite: bool
    value: float
    solved: float
    tokens: float
    by_kind: Mapping[str, float]
    weight: float = 1.0


@dataclass(frozen=True)
class _Sums:
    """Sums over the forks of each task; all arrays have one entry per task."""

    weight_K: Floats
    value_K: Floats
    chosen_K: Floats
    chosen_value_K: Floats

    @classmethod
    def of(
        cls, forks: Sequence[Fork], rule: Rule, task_ids: Sequence[str], value: str = "value"
    ) -> "_Sums":
        places = {name: place for place, name in enumerate(task_ids)}
        sums = np.zeros((4, len(task_ids)))
        for fork in forks:
            w, p, v = fork.weight, rule(fork), getattr(fork, value)
            sums[:, places[fork.task_id]] += (w, w * v, w * p, w * p * v)
        return cls(*sums)

    def frequency(self, weights_RK: Floats) -> Floats:
        return _share(weights_RK @ self.chosen_K, weights_RK @ self.weight_K)

    def mean(self, weights_RK: Floats) -> Floats:
        return _share(weights_RK @ self.value_K, weights_RK @ self.weight_K)

    def where(self, weights_RK: Floats) -> Floats:
        return _share(weights_RK @ self.chosen_value_K, weights_RK @ self.chosen_K)

    def elsewhere(self, weights_RK: Floats) -> Floats:
        rest_K = self.weight_K - self.chosen_K
        return _share(weights_RK @ (self.value_K - self.chosen_value_K), weights_RK @ rest_K)

    def timing(self, weights_RK: Floats) -> Floats:
        return self.where(weights_RK) - self.elsewhere(weights_RK)

    def gain(self, weights_RK: Floats) -> Floats:
        return _share(weights_RK @ self.chosen_value_K, weights_RK @ self.weight_K)


def summarize_timing(forks: Sequence[Fork], *, seed: int = 0) -> dict[str, Any]:
    """Return what the forks of one policy say, as plain JSON; docs/fork.md says what is what.

    Args:
        forks: All of the policy.
        seed: Of the bootstrap over tasks.
    """
    own = _Sums.of(forks, _own, task_ids := _list_tasks(forks))

    def estimate(statistic: Callable[[Floats], Floats]) -> dict[str, Any]:
        return _estimate(statistic, task_ids, seed)

    return {
        "num_forks": len(forks),
        "num_tasks": len(task_ids),
        "num_rewrote": sum(fork.rewrote for fork in forks),
        "value": estimate(own.mean),
        "solved": estimate(_Sums.of(forks, _own, task_ids, "solved").mean),
        "tokens": estimate(_Sums.of(forks, _own, task_ids, "tokens").mean),
        "where_rewrites": estimate(own.where),
        "elsewhere": estimate(own.elsewhere),
        "timing": estimate(own.timing),
        "rules": _judge_rules(forks, own, seed=seed),
        "by_fill": _bin(forks, lambda fork: fork.fill, FILLS, seed=seed),
        "by_turns_left": _bin(forks, lambda fork: fork.turns_left, TURNS_LEFT, seed=seed),
        "by_needs_rewrite": _bin(forks, lambda fork: fork.needs_rewrite, (0, 1), seed=seed),
        "by_kind": {
            kind: _describe(_of_kind(forks, kind), seed=seed)
            for kind in sorted({kind for fork in forks for kind in fork.by_kind})
        },
    }


def compare_timing(
    first: Sequence[Fork], second: Sequence[Fork], *, seed: int = 0
) -> dict[str, Any]:
    """Return the second policy's timing less the first's; tasks are drawn for both alike."""
    task_ids = _list_tasks([*first, *second])
    a, b = (_Sums.of(forks, _own, task_ids) for forks in (first, second))
    return {
        "timing_difference": _estimate(lambda w: b.timing(w) - a.timing(w), task_ids, seed),
        "gain_difference": _estimate(lambda w: b.gain(w) - a.gain(w), task_ids, seed),
    }


def pool_seeds(of_seeds: Sequence[Sequence[Fork]], *, seed: int = 0) -> dict[str, Any]:
    """Return a policy's timing, its parts and its gain over training seeds (`rewards/seeds.py`).

    Args:
        of_seeds: The forks of the policy of each seed, on tasks of one set.
        seed: Of the bootstrap over tasks.
    """
    pooled = [fork for forks in of_seeds for fork in forks]
    found: dict[str, Any] = {"num_seeds": len(of_seeds), "num_forks": len(pooled)}
    for name in ("where", "elsewhere", "timing", "gain"):
        values = [_value_of(forks, name, seed=seed).value for forks in of_seeds]
        found[name] = asdict(over_seeds(values, _value_of(pooled, name, seed=seed)))
    return found


def pool_differences(
    pairs: Sequence[tuple[Sequence[Fork], Sequence[Fork]]], *, seed: int = 0
) -> dict[str, Any]:
    """Return `compare_timing` over training seeds, a pair of policies per seed."""
    whole = [[fork for pair in pairs for fork in pair[side]] for side in (0, 1)]
    pooled, each = compare_timing(*whole, seed=seed), [compare_timing(*p, seed=seed) for p in pairs]
    found: dict[str, Any] = {"num_seeds": len(pairs)}
    for name, of_tasks in pooled.items():
        values = [of_seed[name]["value"] for of_seed in each]
        found[name] = asdict(over_seeds(values, Estimate(**of_tasks)))
    return found


def weigh(forks: Sequence[Fork], *, num_rewrote: int, num_others: int) -> list[Fork]:
    """Let forks stand for all turns that they were drawn from, of which so many were rewritten."""
    turns = {True: num_rewrote, False: num_others}
    drawn = {kind: sum(fork.rewrote == kind for fork in forks) for kind in turns}
    return [replace(fork, weight=turns[fork.rewrote] / drawn[fork.rewrote]) for fork in forks]


def list_thresholds(forks: Sequence[Fork]) -> list[int]:
    """Return the x of the rules `remaining < x`: deciles of what was left at the forks."""
    left = sorted(fork.remaining_tokens for fork in forks)
    levels = [(number + 1) / (NUM_THRESHOLDS + 1) for number in range(NUM_THRESHOLDS)]
    return sorted({left[int(level * len(left))] for level in levels}) if left else []


def _own(fork: Fork) -> float:
    return float(fork.rewrote)


def _list_tasks(forks: Sequence[Fork]) -> list[str]:
    return sorted({fork.task_id for fork in forks})


def _judge_rules(forks: Sequence[Fork], own: _Sums, *, seed: int) -> list[dict[str, Any]]:
    """Return a row per rule; `learned_minus` is what the policy has above it."""
    task_ids = _list_tasks(forks)
    whole = np.ones((1, len(task_ids)))
    frequency = float(own.frequency(whole)[0]) if forks else 0.0
    rules: list[tuple[str, int | None, Rule]] = [
        ("learned", None, _own),
        ("random", None, lambda fork: frequency),
        ("never", None, lambda fork: 0.0),
        *(("remaining <", x, _below(x)) for x in list_thresholds(forks)),
    ]
    rows = []
    for name, x, rule in rules:
        sums = _Sums.of(forks, rule, task_ids)
        row: dict[str, Any] = {
            "rule": name,
            "tokens": x,
            "frequency": _estimate(sums.frequency, task_ids, seed),
            "where_rewrites": _estimate(sums.where, task_ids, seed),
            "timing": _estimate(sums.timing, task_ids, seed),
            "gain": _estimate(sums.gain, task_ids, seed),
        }
        if name != "learned":
            row["learned_minus"] = _minus(own, sums, task_ids, seed)
        rows.append(row)
    return rows


def _minus(own: _Sums, other: _Sums, task_ids: Sequence[str], seed: int) -> dict[str, Any]:
    return {
        "timing": _estimate(lambda w: own.timing(w) - other.timing(w), task_ids, seed),
        "gain": _estimate(lambda w: own.gain(w) - other.gain(w), task_ids, seed),
    }


def _below(x: int) -> Rule:
    return lambda fork: float(fork.remaining_tokens < x)


def _bin(
    forks: Sequence[Fork],
    measure: Callable[[Fork], float],
    starts: Sequence[float],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row per bin that holds forks: where it starts and ends, and what they say."""
    rows = []
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else None
        inside = [f for f in forks if start <= measure(f) and (end is None or measure(f) < end)]
        if inside:
            rows.append({"from": start, "below": end, **_describe(inside, seed=seed)})
    return rows


def _describe(forks: Sequence[Fork], *, seed: int) -> dict[str, Any]:
    own = _Sums.of(forks, _own, task_ids := _list_tasks(forks))
    return {
        "num_forks": len(forks),
        "num_tasks": len(task_ids),
        "frequency": _estimate(own.frequency, task_ids, seed),
        "value": _estimate(own.mean, task_ids, seed),
    }


def _of_kind(forks: Sequence[Fork], kind: str) -> list[Fork]:
    return [replace(f, value=f.by_kind[kind]) for f in forks if kind in f.by_kind]


def _value_of(forks: Sequence[Fork], name: str, *, seed: int) -> Estimate:
    sums = _Sums.of(forks, _own, task_ids := _list_tasks(forks))
    return bootstrap(getattr(sums, name), num_tasks=len(task_ids), seed=seed)


def _estimate(
    statistic: Callable[[Floats], Floats], task_ids: Sequence[str], seed: int
) -> dict[str, Any]:
    return asdict(bootstrap(statistic, num_tasks=len(task_ids), seed=seed))


def _share(part: Floats, whole: Floats) -> Floats:
    """Divide; nothing by nothing is no number."""
    out = np.full_like(part, np.nan)
    return np.divide(part, whole, out=out, where=whole > 1e-12)
