"""Event log -> view: the exact ids that the model sees, as a pure function of an append-only log.

A view concatenates ids that were frozen when their event was made; nothing is rendered or encoded
here. Evict swaps an observation's frozen ids for those of its stub, compact drops all turns so
far, and both bring a new prefix (task, notes, summary). `num_cached` is what a server with a
prefix cache would not compute again.
"""

from collections.abc import Iterable

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


class EventLog:
    """The log of one episode, folded as it grows.

    Attributes:
        events: All of them, `Opened` first; `append` alone adds to them.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = []
        self._prefix: Ids = ()
        self._turns: list[Ids | Observed] = []  # what was sampled, and what was answered
        self._stubs: dict[str, Ids] = {}
        self._num_rewrites = 0
        self._before: Ids = ()  # prompt and sample of the last turn
        self._view: View | None = None
        for event in events:
            self.append(event)

    def append(self, event: Event) -> None:
        """Add what happened last."""
        if isinstance(event, Sampled):
            self._before = self.view().prompt_ids + event.token_ids
            self._turns.append(event.token_ids + event.closing_ids)
        elif isinstance(event, Observed):
            self._turns.append(event)
        elif isinstance(event, Opened | Evicted | Compacted):
            self._prefix = event.prefix_ids
            self._num_rewrites += not isinstance(event, Opened)
            if isinstance(event, Evicted):
                self._stubs |= event.stub_ids
            else:
                self._turns = []
        self.events.append(event)
        self._view = None

    def view(self) -> View:
        """Return what the model sees now; `num_cached` compares with the last turn's sample."""
        if self._view is None:
            prompt_ids = list(self._prefix)
            for part in self._turns:
                prompt_ids += (
                    join_observed(part, stubs=self._stubs) if isinstance(part, Observed) else part
                )
            self._view = View(
                prompt_ids=tuple(prompt_ids),
                observations=tuple(observation for observation, _ in self.list_results()),
                num_cached=common_prefix(self._before, tuple(prompt_ids)),
                num_rewrites=self._num_rewrites,
            )
        return self._view

    def list_results(self) -> list[tuple[Observation, Ids]]:
        """Return the observations in view with their ids, those that became stubs left out."""
        return [
            (observation, ids)
            for part in self._turns
            if isinstance(part, Observed)
            for observation, ids in zip(part.observations, part.piece_ids, strict=True)
            if observation.id not in self._stubs
        ]

    def count_freed(self, eviction: Evicted) -> int:
        """Return by how many tokens its stubs are shorter than the results."""
        stubs = eviction.stub_ids
        return sum(len(ids) - len(stubs[o.id]) for o, ids in self.list_results() if o.id in stubs)

    def count_after(self, eviction: Evicted) -> int:
        """Return how many tokens the prompt would have if `eviction` came next."""
        rest = len(self.view().prompt_ids) - len(self._prefix)
        return len(eviction.prefix_ids) + rest - self.count_freed(eviction)


def render_view(events: Iterable[Event]) -> View:
    """Return what the model sees behind these events, the whole log up to some place."""
    return EventLog(events).view()


def join_observed(observed: Observed, *, stubs: dict[str, Ids]) -> list[int]:
    """Return the suffix that one turn's results add, evicted ones as stubs."""
    ids = list(observed.head_ids)
    for index, (observation, piece) in enumerate(
        zip(observed.observations, observed.piece_ids, strict=True)
    ):
        if index:
            ids += observed.separator_ids[index - 1]
        ids += stubs.get(observation.id, piece)
    return [*ids, *observed.tail_ids]


def common_prefix(left: Ids, right: Ids) -> int:
    """Count the leading ids that two sequences share."""
    if right[: len(left)] == left:
        return len(left)
    return next(i for i, (a, b) in enumerate(zip(left, (*right, -1), strict=False)) if a != b)
