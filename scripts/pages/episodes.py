"""Chooses the episodes worth looking at and unfolds them turn by turn.

An episode record holds everything but the text of what was sampled; that is decoded from its ids,
or, without a tokenizer, replaced by the calls that were parsed from it.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from envs.plain_text import visible
from envs.records import Episode, Event, Opened, Sampled, ToolCall, Turn
from rewards.cost import billed_tokens, num_segments
from rewards.outcome import is_scorable, is_solved

Decode = Callable[[Sequence[int]], str]

MAX_CHARACTERS: Final = 1500
"""Longest text shown of one sample or one observation."""


@dataclass(frozen=True, kw_only=True)
class TurnView:
    """One turn as the page shows it.

    `cached`, `new` and `sampled` are the tokens that make up what was held at its end; `rewritten`
    if the context was rewritten before it; `events` are those that followed the sample.
    """

    segment: int
    cached: int
    new: int
    sampled: int
    rewritten: bool
    text: str
    calls: tuple[ToolCall, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """One episode as the page shows it; `top_tokens` is the top of its chart."""

    record: Episode
    top_tokens: int
    prompt: str
    turns: tuple[TurnView, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same task solved by two policies."""

    saved_tokens: int
    before: EpisodeView
    after: EpisodeView


def most_shortened(
    before: Iterable[Episode], after: Iterable[Episode], *, count: int, decode: Decode | None
) -> list[Pair]:
    """Return tasks both policies solved whose first solving samples differ most in tokens."""
    first, second = (
        _first_per_task(sorted(filter(is_solved, some), key=lambda item: item.sample_index))
        for some in (before, after)
    )
    drops = {
        task: billed_tokens(first[task]) - billed_tokens(second[task])
        for task in sorted(first.keys() & second.keys())
    }
    chosen = sorted((task for task in drops if drops[task] > 0), key=lambda task: -drops[task])
    pairs = []
    for task in chosen[:count]:
        both = (first[task], second[task])
        top = max(map(_most_held, both))
        views = [unfold(episode, decode=decode, top_tokens=top) for episode in both]
        pairs.append(Pair(saved_tokens=drops[task], before=views[0], after=views[1]))
    return pairs


def best_and_worst(
    episodes: Sequence[Episode], *, count: int, decode: Decode | None
) -> tuple[list[EpisodeView], list[EpisodeView]]:
    """Return the cheapest solved episodes and the dearest failures.

    Cheap means billed tokens over the reference cost, so that hard tasks can win too. If some
    solved episode rewrote its context, the cheapest of those is among the best. One per task.
    """
    solved = [*_first_per_task(sorted(filter(is_solved, episodes), key=_relative_cost)).values()]
    best = solved[:count]
    rewrote = [episode for episode in solved if num_segments(episode) > 1]
    if rewrote and not any(episode in best for episode in rewrote):
        best = [*best[: count - 1], rewrote[0]]
    failed = (item for item in episodes if is_scorable(item) and not is_solved(item))
    worst = [*_first_per_task(sorted(failed, key=lambda item: -billed_tokens(item))).values()]
    return (
        [unfold(item, decode=decode) for item in best],
        [unfold(item, decode=decode) for item in worst[:count]],
    )


def unfold(
    episode: Episode, *, decode: Decode | None, top_tokens: int | None = None
) -> EpisodeView:
    """Turn a record into what the page shows; with a shared `top_tokens` charts share a scale."""
    opened = episode.events[0]
    prompt = decode(opened.prefix_ids) if decode and isinstance(opened, Opened) else ""
    return EpisodeView(
        record=episode,
        top_tokens=top_tokens or _most_held(episode),
        prompt=prompt,
        turns=_turn_views(episode, decode),
    )


def ending(episode: Episode) -> str:
    """Return in words how an episode ended."""
    if is_solved(episode):
        return "solved"
    found = episode.outcome
    if found is not None and found.unscorable:
        return "could not be scored"
    if found is not None and found.second_runner:
        return "passed, but the second runner disagrees"
    if found is not None and found.tampered:
        return "tampered with the tests"
    if found is not None and found.recorded_calls:
        return "passed, but recorded calls give something else"
    reason = episode.stop_reason.value.replace("_", " ")
    return "submitted, not solved" if reason == "submitted" else reason


def how_read(call: ToolCall) -> str:
    """Return how a call was read that was not written as it should be."""
    repairs = ", ".join(call.repairs).replace("_", " ")
    return f"{call.name} ({call.format}): {repairs}"


def capped(text: str) -> str:
    """Return a text as a page may show it: cut at `MAX_CHARACTERS`, control characters visible."""
    over, text = len(text) - MAX_CHARACTERS, visible(text[:MAX_CHARACTERS])
    return text if over <= 0 else f"{text}\n[{over:,} more characters]"


def _turn_views(episode: Episode, decode: Decode | None) -> tuple[TurnView, ...]:
    starts = [i for i, event in enumerate(episode.events) if isinstance(event, Sampled)]
    ends = [*starts, len(episode.events)][1:]
    views: list[TurnView] = []
    for turn, start, end in zip(episode.turns, starts, ends, strict=True):
        sampled, follow = episode.events[start], episode.events[start + 1 : end]
        assert isinstance(sampled, Sampled)
        views.append(
            TurnView(
                segment=turn.segment + 1,
                cached=turn.num_cached,
                new=turn.prompt_end - turn.num_cached,
                sampled=turn.sample_end - turn.prompt_end,
                rewritten=bool(views) and turn.segment + 1 != views[-1].segment,
                text=_sampled_text(sampled, turn, decode),
                calls=turn.calls,
                events=tuple(follow),
            )
        )
    return tuple(views)


def _sampled_text(sampled: Sampled, turn: Turn, decode: Decode | None) -> str:
    if decode is not None:
        return decode(sampled.token_ids).strip()
    calls = [
        {"name": call.name, "arguments": call.arguments} for call in turn.calls if not call.error
    ]
    return "\n".join(json.dumps(call, ensure_ascii=False) for call in calls)


def _first_per_task(episodes: Iterable[Episode]) -> dict[str, Episode]:
    first: dict[str, Episode] = {}
    for episode in episodes:
        first.setdefault(episode.task_id, episode)
    return first


def _relative_cost(episode: Episode) -> tuple[float, int]:
    billed = billed_tokens(episode)
    return billed / max(episode.reference_cost, 1.0), billed


def _most_held(episode: Episode) -> int:
    return max([episode.window_tokens, *(turn.sample_end for turn in episode.turns)])
