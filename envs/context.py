"""Event log -> view: the exact ids that the model sees, as a pure function of an append-only log.

A view concatenates ids that were frozen when their event was made; nothing is rendered or encoded
here. Evict swaps an observation's frozen ids for those of its stub, compact drops all turns so
far, and both bring a new prefix (task, notes, summary). `num_cached` is what a server with a
prefix cache would not compute again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.records import (
    Compacted,
    Event,
    Evicted,
    Ids,
    Observation,
    Observed,
    Opened,
    Sampled,
    View,
)


@dataclass
class _Turn:
    sampled: Ids
    observed: Observed | None = None


@dataclass
class _Fold:
    prefix: Ids = ()
    turns: list[_Turn] = field(default_factory=list)
    stubs: dict[str, Ids] = field(default_factory=dict)
    num_rewrites: int = 0

    def add(self, event: Event) -> None:
        if isinstance(event, Opened):
            self.prefix = event.prefix_ids
        elif isinstance(event, Sampled):
            self.turns.append(_Turn(event.token_ids + event.closing_ids))
        elif isinstance(event, Observed):
            self.turns[-1].observed = event
        elif isinstance(event, Evicted):
            self.prefix = event.prefix_ids
            self.stubs |= event.stub_ids
            self.num_rewrites += 1
        elif isinstance(event, Compacted):
            self.prefix = event.prefix_ids
            self.turns = []
            self.num_rewrites += 1

    def ids(self) -> Ids:
        parts: list[int] = list(self.prefix)
        for turn in self.turns:
            parts += turn.sampled
            if turn.observed is not None:
                parts += observed_ids(turn.observed, stubs=self.stubs)
        return tuple(parts)

    def observations(self) -> tuple[Observation, ...]:
        return tuple(
            observation
            for turn in self.turns
            if turn.observed is not None
            for observation in turn.observed.observations
            if observation.id not in self.stubs
        )


def observed_ids(observed: Observed, *, stubs: dict[str, Ids]) -> list[int]:
    """Return the suffix that one turn's results add, evicted ones as stubs."""
    ids = list(observed.head_ids)
    for index, (observation, piece) in enumerate(
        zip(observed.observations, observed.piece_ids, strict=True)
    ):
        if index:
            ids += observed.separator_ids[index - 1]
        ids += stubs.get(observation.id, piece)
    return [*ids, *observed.tail_ids]


def render_view(events: Sequence[Event]) -> View:
    """Fold the log into what the model sees next.

    Args:
        events: The whole log, `Opened` first.

    Returns:
        The view; its `num_cached` compares with the last turn's prompt and sample.
    """
    last_sampled = max((i for i, e in enumerate(events) if isinstance(e, Sampled)), default=None)
    fold = _Fold()
    before: Ids = ()
    for index, event in enumerate(events):
        if index == last_sampled:
            assert isinstance(event, Sampled)
            before = fold.ids() + event.token_ids
        fold.add(event)
    prompt_ids = fold.ids()
    return View(
        prompt_ids=prompt_ids,
        observations=fold.observations(),
        num_cached=common_prefix(before, prompt_ids),
        num_rewrites=fold.num_rewrites,
    )


def common_prefix(left: Ids, right: Ids) -> int:
    """Count the leading ids that two sequences share."""
    if right[: len(left)] == left:
        return len(left)
    return next(i for i, (a, b) in enumerate(zip(left, (*right, -1), strict=False)) if a != b)
