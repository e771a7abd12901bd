"""What a set of episodes amounts to: a row per evaluated policy, a dictionary per training step.

Definitions (billed tokens, tokens per solved, peak context) are those of `rewards.cost`. Unscorable
episodes are failures of the infrastructure: they are counted, and enter nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from envs.records import CallFormat, Episode, FailedPart, Score, StopReason
from rewards import cost as meter
from rewards.discipline import discipline_means
from rewards.intervals import (
    Estimate,
    PairedDifference,
    bootstrap,
    group_by_task,
    paired_difference,
    pass_rate_estimate,
    sum_by_task,
)
from rewards.outcome import failed_part, is_scorable, is_solved
from rewards.seeds import Pair, over_seeds, paired_over_seeds


def summarize(
    episodes: Sequence[Episode], *, name: str, sampling: str, seed: int = 0
) -> dict[str, Any]:
    """One policy's row of `summary.json`; the intervals are over tasks, for this very policy.

    Args:
        episodes: All evaluation episodes of the policy, any number per task.
        name: Name of the policy.
        sampling: How it was sampled, in words, for instance `temperature 1` or `greedy`.
        seed: Seed of the bootstrap over tasks.

    Returns:
        Plain JSON. `num_samples` counts scored episodes over all tasks; rates are shares; tokens
        are billed tokens. `tokens_per_solved` is None if nothing was solved, a bound of its
        interval if that bound lies in resamples without a solved episode, and all means are None if
        nothing could be scored. `discipline` holds means over those episodes in which a number
        has a value (`rewards/discipline.py`).
    """
    groups = group_by_task(episodes)
    sums = sum_by_task(groups, list(groups))
    scored = [episode for group in groups.values() for episode in group]
    pass_rate = pass_rate_estimate(sums, num_tasks=len(groups), seed=seed)
    per_solved = bootstrap(sums.tokens_per_solved, num_tasks=len(groups), seed=seed)
    peaks = [meter.peak_context(episode) for episode in scored]
    stops = [episode.stop_reason.value for episode in episodes]
    return {
        "name": name,
        "sampling": sampling,
        "num_tasks": len(groups),
        "num_samples": len(scored),
        "num_unscorable": len(episodes) - len(scored),
        "unscorable": {part: num for part, num in count_failed_parts(episodes).items() if num},
        "num_disagreements": _num_disagreements(episodes),
        **_with_interval("pass_rate", pass_rate),
        **_with_interval("tokens_per_solved", per_solved),
        "billed_tokens_mean": _mean([meter.billed_tokens(item) for item in scored]),
        "peak_context_p50": _percentile(peaks, 50),
        "peak_context_p95": _percentile(peaks, 95),
        **{f"{what}_mean": mean for what, mean in _mean_counts(scored).items()},
        "stop_reasons": {reason: stops.count(reason) for reason in sorted(set(stops))},
        "calls": count_calls(scored),
        "discipline": discipline_means(scored),
    }


def format_row(row: Mapping[str, Any]) -> list[str]:
    """Return a policy's row of `summary.json` as the cells of a table.

    Policy, sampling, tasks, episodes, pass rate and tokens per solved with their intervals, the
    median and the 95th percentile of the peak context, mean turns; a dash for what is undefined.
    """

    def number(name: str, form: str) -> str:
        numbers = (row.get(name), *(row.get(f"{name}_ci95") or ()))
        texts = ["-" if each is None else format(each, form) for each in numbers]
        return f"{texts[0]} [{', '.join(texts[1:])}]" if texts[1:] else texts[0]

    return [
        str(row["name"]),
        str(row.get("sampling", "")),
        str(row["num_tasks"]),
        str(row["num_samples"]),
        number("pass_rate", ".2f"),
        number("tokens_per_solved", ",.0f"),
        f"{number('peak_context_p50', ',.0f')}/{number('peak_context_p95', ',.0f')}",
        number("turns_mean", ".1f"),
    ]


def compare(
    first: Sequence[Episode],
    second: Sequence[Episode],
    *,
    first_name: str,
    second_name: str,
    seed: int = 0,
) -> dict[str, Any]:
    """One entry of `comparisons` in `summary.json`: second against first, on the same tasks.

    The intervals are over tasks, for these two trained policies (`num_seeds` is 1).
    """
    paired = paired_difference(first, second, seed=seed)
    return _comparison(paired, first_name=first_name, second_name=second_name)


def summarize_seeds(
    of_seeds: Sequence[Sequence[Episode]], *, name: str, sampling: str, seed: int = 0
) -> dict[str, Any]:
    """One recipe's row, trained with several seeds: `summarize` with intervals over seeds.

    Pass rate and tokens per solved are the mean and the geometric mean of the seeds; `num_seeds` is
    beside them; all else is of all episodes.
    """
    rows = [summarize(each, name=name, sampling=sampling, seed=seed) for each in of_seeds]
    pooled = [episode for each in of_seeds for episode in each]
    row = summarize(pooled, name=name, sampling=sampling, seed=seed)
    for key, is_ratio, most in (("pass_rate", False, 1.0), ("tokens_per_solved", True, math.inf)):
        low, high = row[f"{key}_ci95"]
        over_tasks = Estimate(value=row[key], ci95=(low, high))
        values = [each[key] for each in rows]
        found = over_seeds(values, over_tasks, is_ratio=is_ratio, within=(0.0, most))
        row |= _with_interval(key, found)
    return {**row, "num_seeds": len(of_seeds)}


def compare_seeds(
    pairs: Sequence[Pair], *, first_name: str, second_name: str, seed: int = 0
) -> dict[str, Any]:
    """`compare` of two recipes, a pair of policies per training seed, with intervals over seeds."""
    paired = paired_over_seeds(pairs, seed=seed)
    return _comparison(paired, first_name=first_name, second_name=second_name)


def step_metrics(
    groups: Sequence[Sequence[Episode]], scores: Sequence[Sequence[Score]]
) -> dict[str, float]:
    """Metrics of one training step from its groups and their scores (same shape).

    Counts are per scorable episode unless the name says `share`. `tokens_per_solved` is left out
    when nothing was solved: it has no value then; so is each `discipline/NAME` that has none.
    `stop/NAME` are shares of all episodes, unscorable included; `unscorable/PART` counts those that
    failed there. `format/NAME` are shares of all calls, malformed ones included.
    """
    everything = [episode for group in groups for episode in group]
    scored = [episode for episode in everything if is_scorable(episode)]
    flat = [score for group in scores for score in group if score.scorable]
    found = {
        "num_episodes": float(len(everything)),
        "num_unscorable": float(len(everything) - len(scored)),
        "num_disagreements": float(_num_disagreements(everything)),
        "share_groups_without_signal": share_without_signal(scores),
    }
    for part, num in count_failed_parts(everything).items():
        found[f"unscorable/{part}"] = float(num)
    for reason in StopReason:
        share = _mean([episode.stop_reason == reason for episode in everything])
        found[f"stop/{reason.value}"] = share or 0.0
    if scored:
        found |= _behaviour(scored)
        disciplined = discipline_means(scored)
        found |= {f"discipline/{k}": mean for k, mean in disciplined.items() if mean is not None}
        found["outcome"] = float(np.mean([score.outcome for score in flat]))
        found["cost"] = float(np.mean([score.cost for score in flat]))
        found["advantage_abs"] = float(np.mean([abs(score.advantage) for score in flat]))
        found["share_clamped"] = float(np.mean([score.components["clamped"] for score in flat]))
        found["share_masked"] = float(np.mean([score.masked for score in flat]))
    return found


def share_without_signal(scores: Sequence[Sequence[Score]]) -> float:
    """Return the share of groups in which all advantages are 0.

    A group of which fewer than two episodes are scorable says nothing about signal.
    """
    scorable = [group for group in scores if sum(score.scorable for score in group) > 1]
    return _mean([all(score.advantage == 0.0 for score in group) for group in scorable]) or 0.0


def count_failed_parts(episodes: Sequence[Episode]) -> dict[FailedPart, int]:
    """Count unscorable episodes by what failed; every class is there, if with 0."""
    parts = [failed_part(episode) for episode in episodes]
    return {part: parts.count(part) for part in get_args(FailedPart)}


def count_calls(episodes: Sequence[Episode]) -> dict[str, int]:
    """Count the tool calls by the format they were written in.

    Returns:
        Formats that occur, `malformed` calls, which could not be read, and `mended` ones, which
        needed lenience. Both are among their formats, too.
    """
    calls = [call for episode in episodes for turn in episode.turns for call in turn.calls]
    formats = [call.format for call in calls]
    return {
        **{form: formats.count(form) for form in get_args(CallFormat) if form in formats},
        "malformed": sum(call.error is not None for call in calls),
        "mended": sum(bool(call.repairs) for call in calls),
    }


def _mean_counts(scored: Sequence[Episode]) -> dict[str, float | None]:
    return {
        "turns": _mean([len(episode.turns) for episode in scored]),
        "segments": _mean([meter.num_segments(episode) for episode in scored]),
        "compactions": _mean([meter.num_compactions(episode) for episode in scored]),
        "evictions": _mean([meter.num_evictions(episode) for episode in scored]),
        "automatic_rewrites": _mean([meter.num_automatic_rewrites(item) for item in scored]),
    }


def _num_disagreements(episodes: Sequence[Episode]) -> int:
    """Count the passes that the second runner or the recorded calls did not believe."""
    found = [each.outcome for each in episodes if each.outcome]
    return sum(
        bool(each.second_runner or (each.recorded_calls and not each.tampered)) for each in found
    )  # of what was tampered with, `recorded_calls` says why they were not asked


def _behaviour(scored: Sequence[Episode]) -> dict[str, float]:
    num_solved = sum(map(is_solved, scored))
    billed = sum(map(meter.billed_tokens, scored))
    segments = [meter.num_segments(episode) for episode in scored]
    calls = count_calls(scored)
    num_malformed, num_mended = calls.pop("malformed"), calls.pop("mended")
    num_calls = max(sum(calls.values()), 1)
    found = {
        "pass_rate": num_solved / len(scored),
        "billed_tokens": billed / len(scored),
        "sampled_tokens": float(np.mean([meter.sampled_tokens(item) for item in scored])),
        "peak_context": float(np.mean([meter.peak_context(item) for item in scored])),
        **{f"{what}_per_episode": mean or 0.0 for what, mean in _mean_counts(scored).items()},
        # the first segment starts from the frozen prefix, every later one from a rewritten context
        "share_rows_rewritten": sum(max(n - 1, 0) for n in segments) / max(sum(segments), 1),
        "share_malformed_calls": num_malformed / num_calls,
        "share_mended_calls": num_mended / num_calls,
        **{f"format/{form}": calls.get(form, 0) / num_calls for form in get_args(CallFormat)},
    }
    if num_solved:
        found["tokens_per_solved"] = billed / num_solved
    return found


def _comparison(paired: PairedDifference, *, first_name: str, second_name: str) -> dict[str, Any]:
    return {
        "first": first_name,
        "second": second_name,
        "num_tasks": paired.num_tasks,
        "num_seeds": paired.num_seeds,
        **_with_interval("pass_rate_difference", paired.pass_rate_difference),
        **_with_interval("tokens_per_solved_ratio", paired.tokens_per_solved_ratio),
        **_with_interval("peak_context_ratio", paired.peak_context_ratio),
    }


def _with_interval(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: estimate.value, f"{name}_ci95": list(estimate.ci95)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _percentile(values: Sequence[int], level: float) -> float | None:
    return float(np.percentile(values, level)) if len(values) else None
