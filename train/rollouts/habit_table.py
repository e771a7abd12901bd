"""Demonstrations by habit: how many, how long, in how many segments, and what they do.

Tests: tests/train/rollouts/test_demonstrations.py.
"""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from envs.records import Episode, Noted
from rewards.cost import (
    billed_tokens,
    num_compactions,
    num_evictions,
    num_segments,
    peak_context,
    sampled_tokens,
)
from rewards.mistakes import find_mistakes
from rewards.reading import read_back

COLUMNS = {
    "habit": "habit",
    "num_episodes": "number",
    "needs_rewrite_share": "need a rewrite",
    "turns": "turns",
    "sampled_tokens": "sampled",
    "billed_tokens": "billed",
    "peak_share": "peak / window",
    "segments": "segments",
    "row_tokens": "longest row",
    "evictions": "evict",
    "compactions": "compact",
    "notes": "note",
    "plan_share": "plan first",
    "mistake_share": "mistakes",
}
"""Names of a row's values, and the heads of the printed table."""


def tabulate_habits(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """Return a row for each habit, most frequent first, and one for all.

    Shares are of the habit's episodes, `row_tokens` is of the longest training row, the rest are
    means per episode; tokens are of the run's tokenizer.
    """
    groups: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        groups[episode.policy].append(episode)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = [_tabulate(name, group) for name, group in ordered]
    return [*rows, _tabulate("all", episodes)] if len(rows) > 1 else rows


def format_cells(row: dict[str, Any]) -> list[str]:
    """Return a row as texts, in the order of `COLUMNS`."""
    return [_format(name, row[name]) for name in COLUMNS]


def _tabulate(name: str, episodes: Sequence[Episode]) -> dict[str, Any]:
    means: dict[str, Sequence[float]] = {
        "needs_rewrite_share": [episode.needs_rewrite for episode in episodes],
        "turns": [len(episode.turns) for episode in episodes],
        "sampled_tokens": list(map(sampled_tokens, episodes)),
        "billed_tokens": list(map(billed_tokens, episodes)),
        "peak_share": [peak_context(each) / each.window_tokens for each in episodes],
        "segments": list(map(num_segments, episodes)),
        "evictions": list(map(num_evictions, episodes)),
        "compactions": list(map(num_compactions, episodes)),
        "notes": [sum(isinstance(e, Noted) for e in each.events) for each in episodes],
        "plan_share": [bool(read_back(episode).planned) for episode in episodes],
        "mistake_share": [bool(find_mistakes(episode)) for episode in episodes],
    }
    longest = max(turn.sample_end for episode in episodes for turn in episode.turns)
    found = {key: statistics.fmean(values) for key, values in means.items()}
    return {"habit": name, "num_episodes": len(episodes), "row_tokens": longest, **found}


def _format(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name.endswith("_share"):
        return f"{value:.0%}"
    return f"{value:,.0f}" if isinstance(value, int) or name.endswith("_tokens") else f"{value:.1f}"
