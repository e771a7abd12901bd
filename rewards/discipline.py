"""How an episode used its context: what it read for nothing, read again, planned, kept and used.

From the record alone (`rewards/reading.py`), so it can be worked out of any saved file. All numbers
of one episode, then their means over those episodes in which they are defined. Lines that a repair
needs are the task's gold spans. Reads show source: `search`, `read_lines`, `read_file`.
docs/reward.md defines each number.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Final

from envs.records import Compacted, Episode, Evicted, Noted, Observed, Sampled, ToolCall
from rewards import cost as meter
from rewards.outcome import is_solved
from rewards.reading import READS, Reading, needed_lines, read_back

WORD: Final = re.compile(r"[A-Za-z_]\w{2,}|\d+")
"""What a fact is made of: a name, a word or a number."""
ACTIONS: Final = ("note", "evict", "compact")


@dataclass(frozen=True, kw_only=True)
class Discipline:
    """Of one episode; None where it has no value (nothing read, nothing noted, gold unknown)."""

    read_precision: float | None
    """Share of the lines shown by reads, each counted once, that the repair needs."""
    read_recall: float | None
    """Share of the lines that the repair needs that some read showed."""
    over_read: float | None
    """Lines shown by reads, repeats included, over the lines that the repair needs."""
    wasted_read_share: float | None
    """Share of the tokens of reads on lines that were neither needed, noted nor edited."""
    reread_accidental: float | None
    """Share of the lines of `read_lines` and `read_file` that were in view already."""
    reread_by_pointer: float | None
    """Share that had left the view and to which a stub, a note or the summary pointed."""
    reread_lost: float | None
    """Share that had left the view without a pointer."""
    planned: float | None
    """1 if a turn before that of the first read noted lines that were then read; else 0."""
    read_lines_share: float | None
    """`read_lines` among the reads of files."""
    peak_fill: float | None
    """Largest view over the window."""
    compaction_fill: float | None
    """View and `compact` call over the window, mean over compactions."""
    compaction_ratio: float | None
    """View behind a compaction over view and call before it, mean over compactions."""
    fact_use: float | None
    """Share of the facts of notes and summaries that a later call named.

    A fact is a name or number that a result had shown before.
    """
    context_actions: float
    """Notes, evictions and compactions of the model's own."""


def measure(episode: Episode) -> Discipline:
    """Return the discipline of one episode."""
    reading, needed = read_back(episode), needed_lines(episode)
    shown = [line for read in reading.reads for line in read.lines]
    of_files = [read for read in reading.reads if read.tool in READS]
    num_lines = sum(len(set(read.lines)) for read in of_files)
    compactions = list(_compactions(episode))
    facts = list(_facts(episode))
    return Discipline(
        read_precision=_share(len(needed.intersection(shown)), len(set(shown)) * bool(needed)),
        read_recall=_share(len(needed.intersection(shown)), len(needed)),
        over_read=_share(len(shown), len(needed)),
        wasted_read_share=_wasted(reading, needed) if needed else None,
        reread_accidental=_share(sum(len(read.in_view) for read in of_files), num_lines),
        reread_by_pointer=_share(sum(len(read.by_pointer) for read in of_files), num_lines),
        reread_lost=_share(sum(len(read.lost) for read in of_files), num_lines),
        planned=None if reading.planned is None else float(reading.planned),
        read_lines_share=_share(sum(read.tool == "read_lines" for read in of_files), len(of_files)),
        peak_fill=_share(meter.peak_context(episode), episode.window_tokens),
        compaction_fill=_mean([before / episode.window_tokens for before, _ in compactions]),
        compaction_ratio=_mean([after / before for before, after in compactions]),
        fact_use=_mean([float(is_used) for is_used in facts]),
        context_actions=float(sum(map(_is_own_action, episode.events))),
    )


def discipline_means(scored: Sequence[Episode]) -> dict[str, float | None]:
    """Return the means over scorable episodes by name, and what windows that need a rewrite do.

    `num_needs_rewrite` counts episodes in such windows; `pass_rate_needs_rewrite` and
    `context_actions_needs_rewrite` are of them, `..._elsewhere` of the others.
    """
    measured = [measure(episode) for episode in scored]
    found = {
        each.name: _mean([v for one in measured if (v := getattr(one, each.name)) is not None])
        for each in fields(Discipline)
    }
    pairs = list(zip(scored, measured, strict=True))
    found["num_needs_rewrite"] = float(sum(episode.needs_rewrite for episode in scored))
    for name, wanted in (("needs_rewrite", True), ("elsewhere", False)):
        here = [pair for pair in pairs if pair[0].needs_rewrite == wanted]
        found[f"pass_rate_{name}"] = _mean([float(is_solved(episode)) for episode, _ in here])
        found[f"context_actions_{name}"] = _mean([one.context_actions for _, one in here])
    return found


def _wasted(reading: Reading, needed: frozenset[tuple[str, int]]) -> float | None:
    """Share a result's tokens evenly over its lines."""
    used = needed | reading.noted | reading.edited
    wasted = [
        read.num_tokens * sum(line not in used for line in read.lines) / len(read.lines)
        for read in reading.reads
        if read.lines
    ]
    return _share(sum(wasted), sum(read.num_tokens for read in reading.reads if read.lines))


def _compactions(episode: Episode) -> Iterator[tuple[int, int]]:
    """Yield tokens held before and behind each compaction."""
    turn = -1
    for event in episode.events:
        turn += isinstance(event, Sampled)
        if isinstance(event, Compacted):
            yield max(1, episode.turns[turn].sample_end), len(event.prefix_ids)


def _facts(episode: Episode) -> Iterator[bool]:
    """Yield of each fact of a note or summary whether a call of a later turn named it."""
    shown: set[str] = set()
    turn = -1
    for event in episode.events:
        turn += isinstance(event, Sampled)
        if isinstance(event, Observed):
            for observation in event.observations:
                shown.update(WORD.findall(observation.body))
        elif isinstance(event, Noted | Compacted):
            text = event.facts if isinstance(event, Noted) else event.summary
            facts = shown.intersection(WORD.findall(text))
            calls = [call for each in episode.turns[turn + 1 :] for call in each.calls]
            named = {word for call in calls for word in _words(call)}
            yield from (fact in named for fact in sorted(facts))


def _words(call: ToolCall) -> list[str]:
    """Return the words of a call's arguments, of one that says what is done, not what is kept."""
    return [] if call.name in ACTIONS else WORD.findall(" ".join(map(str, call.arguments.values())))


def _is_own_action(event: object) -> bool:
    is_action = isinstance(event, Noted | Evicted | Compacted)
    return is_action and not getattr(event, "automatic", False)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
