"""Chooses the episodes worth looking at and unfolds them turn by turn.

An episode record holds everything but the text of what was sampled; that is decoded from its ids,
or, without a tokenizer, replaced by the calls that were parsed from it.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from envs.plain_text import visible
from envs.records import (
    Compacted,
    Episode,
    Evicted,
    Noted,
    Observation,
    Observed,
    Opened,
    Sampled,
    ToolCall,
    Turn,
)
from rewards.cost import billed_tokens, num_compactions, num_evictions, num_segments, peak_context
from rewards.outcome import is_scorable, is_solved

Decode = Callable[[Sequence[int]], str]

MAX_CHARACTERS: Final = 1500
"""Longest text shown of one sample or one observation."""


@dataclass(frozen=True, kw_only=True)
class TurnView:
    """One turn as the page shows it.

    `cached`, `new` and `sampled` are the tokens that make up what was held at its end; `rewritten`
    if the context was rewritten before it.
    """

    number: int
    segment: int
    cached: int
    new: int
    sampled: int
    rewritten: bool
    text: str
    errors: tuple[str, ...]
    mended: tuple[str, ...]
    observations: tuple[Observation, ...]
    notes: tuple[str, ...]
    evicted: tuple[str, ...]
    summary: str | None


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """One episode as the page shows it; `top_tokens` is the top of its chart."""

    title: str
    policy: str
    task_id: str
    ending: str
    solved: bool
    forced: bool
    window_tokens: int
    top_tokens: int
    billed_tokens: int
    peak_context: int
    num_segments: int
    num_evictions: int
    num_compactions: int
    prompt: str
    turns: tuple[TurnView, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same task solved by two policies."""

    task_id: str
    saved_tokens: int
    before: EpisodeView
    after: EpisodeView


def most_shortened(
    before: Iterable[Episode],
    after: Iterable[Episode],
    *,
    count: int,
    decode: Decode | None,
    names: tuple[str, str] = ("sft", "grpo"),
) -> list[Pair]:
    """Return tasks both policies solved whose first solving samples differ most in tokens."""
    first, second = _first_solved(before), _first_solved(after)
    shared = sorted(first.keys() & second.keys())
    drops = {key: billed_tokens(first[key]) - billed_tokens(second[key]) for key in shared}
    chosen = sorted((key for key in shared if drops[key] > 0), key=lambda k: -drops[k])[:count]
    pairs = []
    for key in chosen:
        both = (first[key], second[key])
        top = max(_most_held(episode) for episode in both)
        views = [
            unfold(episode, title=name, decode=decode, top_tokens=top)
            for episode, name in zip(both, names, strict=True)
        ]
        saved = drops[key]
        pairs.append(Pair(task_id=key, saved_tokens=saved, before=views[0], after=views[1]))
    return pairs


def best_and_worst(
    episodes: Sequence[Episode], *, count: int, decode: Decode | None
) -> tuple[list[EpisodeView], list[EpisodeView]]:
    """Return the cheapest solved episodes and the dearest failures.

    Cheap means billed tokens over the reference cost, so that hard tasks can win too. If some
    solved episode rewrote its context, the cheapest of those is among the best. One per task.
    """
    solved = _one_per_task(sorted(filter(is_solved, episodes), key=_relative_cost))
    best = solved[:count]
    rewrote = [episode for episode in solved if num_segments(episode) > 1]
    if rewrote and not any(episode in best for episode in rewrote):
        best = [*best[: count - 1], rewrote[0]]
    failed = (item for item in episodes if is_scorable(item) and not is_solved(item))
    worst = _one_per_task(sorted(failed, key=lambda item: -billed_tokens(item)))[:count]
    return (
        [unfold(item, title="best", decode=decode) for item in best],
        [unfold(item, title="worst", decode=decode) for item in worst],
    )


def unfold(
    episode: Episode, *, title: str, decode: Decode | None, top_tokens: int | None = None
) -> EpisodeView:
    """Turn a record into what the page shows; with a shared `top_tokens` charts share a scale."""
    opened = episode.events[0]
    prompt = decode(opened.prefix_ids) if decode and isinstance(opened, Opened) else ""
    return EpisodeView(
        title=title,
        policy=episode.policy,
        task_id=episode.task_id,
        ending="solved" if is_solved(episode) else _ending(episode),
        solved=is_solved(episode),
        forced=episode.forced,
        window_tokens=episode.window_tokens,
        top_tokens=top_tokens or _most_held(episode),
        billed_tokens=billed_tokens(episode),
        peak_context=peak_context(episode),
        num_segments=num_segments(episode),
        num_evictions=num_evictions(episode),
        num_compactions=num_compactions(episode),
        prompt=_capped(prompt),
        turns=_turn_views(episode, decode),
    )


def _turn_views(episode: Episode, decode: Decode | None) -> tuple[TurnView, ...]:
    starts = [i for i, event in enumerate(episode.events) if isinstance(event, Sampled)]
    ends = [*starts, len(episode.events)][1:]
    views: list[TurnView] = []
    for turn, start, end in zip(episode.turns, starts, ends, strict=True):
        sampled, follow = episode.events[start], episode.events[start + 1 : end]
        assert isinstance(sampled, Sampled)
        compacted = [event.summary for event in follow if isinstance(event, Compacted)]
        views.append(
            TurnView(
                number=len(views) + 1,
                segment=turn.segment + 1,
                cached=turn.num_cached,
                new=turn.prompt_end - turn.num_cached,
                sampled=turn.sample_end - turn.prompt_end,
                rewritten=bool(views) and turn.segment + 1 != views[-1].segment,
                text=_capped(_sampled_text(sampled, turn, decode)),
                errors=tuple(_capped(call.error) for call in turn.calls if call.error),
                mended=tuple(_how_read(call) for call in turn.calls if call.repairs),
                observations=tuple(_observations(follow)),
                notes=tuple(
                    _capped(f"{event.path}:{event.start}-{event.end} {event.facts}")
                    for event in follow
                    if isinstance(event, Noted)
                ),
                evicted=tuple(
                    name
                    for event in follow
                    if isinstance(event, Evicted)
                    for name in event.stub_ids
                ),
                summary=_capped(compacted[0]) if compacted else None,
            )
        )
    return tuple(views)


def _how_read(call: ToolCall) -> str:
    """Return how a call was read that was not written as it should be."""
    repairs = ", ".join(call.repairs).replace("_", " ")
    return _capped(f"{call.name} ({call.format}): {repairs}")


def _observations(events: Iterable[object]) -> Iterable[Observation]:
    for event in events:
        if isinstance(event, Observed):
            for item in event.observations:
                yield item.model_copy(update={"text": _capped(item.text)})


def _sampled_text(sampled: Sampled, turn: Turn, decode: Decode | None) -> str:
    if decode is not None:
        return decode(sampled.token_ids).strip()
    calls = [
        {"name": call.name, "arguments": call.arguments} for call in turn.calls if not call.error
    ]
    return "\n".join(json.dumps(call, ensure_ascii=False) for call in calls)


def _first_solved(episodes: Iterable[Episode]) -> dict[str, Episode]:
    first: dict[str, Episode] = {}
    for episode in sorted(episodes, key=lambda item: item.sample_index):
        if is_solved(episode):
            first.setdefault(episode.task_id, episode)
    return first


def _one_per_task(episodes: Iterable[Episode]) -> list[Episode]:
    first: dict[str, Episode] = {}
    for episode in episodes:
        first.setdefault(episode.task_id, episode)
    return list(first.values())


def _relative_cost(episode: Episode) -> tuple[float, int]:
    billed = billed_tokens(episode)
    return billed / max(episode.reference_cost, 1.0), billed


def _most_held(episode: Episode) -> int:
    return max([episode.window_tokens, *(turn.sample_end for turn in episode.turns)])


def _ending(episode: Episode) -> str:
    found = episode.outcome
    if found is not None and found.unscorable:
        return "could not be scored"
    if found is not None and found.second_runner:
        return "passed, but the second runner disagrees"
    if found is not None and found.tampered:
        return "tampered with the tests"
    reason = episode.stop_reason.value.replace("_", " ")
    return "submitted, not solved" if reason == "submitted" else reason


def _capped(text: str) -> str:
    over, text = len(text) - MAX_CHARACTERS, visible(text[:MAX_CHARACTERS])
    return text if over <= 0 else f"{text}\n[{over:,} more characters]"
