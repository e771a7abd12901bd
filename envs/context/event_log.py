"""Event log -> view: the exact ids that the model sees, as a pure function of an append-only log.

A view concatenates ids that were frozen when their event was made; nothing is rendered or encoded
here. Evict swaps an observation's frozen ids for those of its stub, compact drops all turns so
far, and both bring a new prefix (task, notes, summary). `num_cached` is what a server with a
prefix cache would not compute again.

The log is folded as it grows: a turn appends to the ids in view, only a rewrite puts them together
anew (benchmarks/context_log.py has what a turn costs).
"""

from collections.abc import Iterable, Iterator, Sequence

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
        num_own_rewrites: Rewrites that the model itself chose.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = []
        self.num_own_rewrites = 0
        self._num_rewrites = 0
        self._num_prefix = 0
        self._ids: list[int] = []  # in view now
        self._turns: list[Ids | Observed] = []  # what was sampled, and what was answered
        self._stubs: dict[str, Ids] = {}
        self._live: dict[str, tuple[Observation, Ids]] = {}  # in view, those of stubs left out
        self._num_held = 0  # prompt and sample of the last turn
        self._num_segment = 0  # the same with its closing ids
        self._before: list[int] | None = None  # those ids, once a rewrite has changed them
        self._num_cached = 0
        self._segments: list[Ids] = []  # that are over
        self._asks_summary = False
        self._view: View | None = None
        for event in events:
            self.append(event)

    def append(self, event: Event) -> None:
        """Add what happened last."""
        if isinstance(event, Sampled):
            self._sample(event)
        elif isinstance(event, Observed):
            self._turns.append(event)
            self._asks_summary = event.asks_summary
            self._ids += join_observed(event, stubs=self._stubs)
            pieces = zip(event.observations, event.piece_ids, strict=True)
            self._live |= {each.id: (each, ids) for each, ids in pieces}
        elif isinstance(event, Opened | Evicted | Compacted):
            self._rewrite(event)
        self.events.append(event)
        self._view = None

    def view(self) -> View:
        """Return what the model sees now; `num_cached` compares with the last turn's sample."""
        if self._view is None:
            # not validated: the ids are, in their events, and a long view would cost more than a
            # turn may
            self._view = View.model_construct(
                prompt_ids=tuple(self._ids),
                observations=tuple(observation for observation, _ in self._live.values()),
                num_cached=self._num_cached,
                num_rewrites=self._num_rewrites,
                asks_summary=self._asks_summary,
            )
        return self._view

    @property
    def num_tokens(self) -> int:
        """Of the view as it is now."""
        return len(self._ids)

    @property
    def segment(self) -> int:
        """Return the number of the segment that the last sample stands in, from 0."""
        return len(self._segments)

    def segment_ids(self) -> tuple[Ids, ...]:
        """Return the ids of all segments, each up to the end of its last sample."""
        if not self._num_segment:
            return ()
        last = self._ids[: self._num_segment] if self._before is None else self._before
        return (*self._segments, tuple(last))

    def list_results(self) -> list[tuple[Observation, Ids]]:
        """Return the observations in view with their ids, those that became stubs left out."""
        return list(self._live.values())

    def count_freed(self, eviction: Evicted) -> int:
        """Return by how many tokens its stubs are shorter than the results."""
        stubs = eviction.stub_ids
        return sum(len(self._live[name][1]) - len(ids) for name, ids in stubs.items())

    def count_after(self, eviction: Evicted) -> int:
        """Return how many tokens the prompt would have if `eviction` came next."""
        rest = len(self._ids) - self._num_prefix
        return len(eviction.prefix_ids) + rest - self.count_freed(eviction)

    def _sample(self, sampled: Sampled) -> None:
        before = self._before
        if before is not None and self._ids[: len(before)] != before:
            self._segments.append(tuple(before))
        self._before, self._asks_summary = None, False
        self._turns.append(sampled.token_ids + sampled.closing_ids)
        self._ids += sampled.token_ids
        self._num_held = self._num_cached = len(self._ids)
        self._ids += sampled.closing_ids
        self._num_segment = len(self._ids)

    def _rewrite(self, event: Opened | Evicted | Compacted) -> None:
        if self._before is None and self._num_segment:
            self._before = self._ids[: self._num_segment]
        if isinstance(event, Evicted):
            self._stubs |= event.stub_ids
            self._live = {n: each for n, each in self._live.items() if n not in event.stub_ids}
        else:
            self._turns, self._live = [], {}
        self._ids = list(event.prefix_ids)
        for part in self._turns:
            self._ids += (
                join_observed(part, stubs=self._stubs) if isinstance(part, Observed) else part
            )
        self._num_prefix = len(event.prefix_ids)
        if not isinstance(event, Opened):
            self._num_rewrites += 1
            self.num_own_rewrites += not event.automatic
        held = (self._before or [])[: self._num_held]
        self._num_cached = common_prefix(held, self._ids)


def render_view(events: Iterable[Event]) -> View:
    """Return what the model sees behind these events, the whole log up to some place."""
    return EventLog(events).view()


def iterate_views(events: Iterable[Event]) -> Iterator[View]:
    """Yield the view of each turn of a log, in one pass."""
    log = EventLog()
    for event in events:
        if isinstance(event, Sampled):
            yield log.view()
        log.append(event)


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


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the leading ids that two sequences share."""
    if right[: len(left)] == left:
        return len(left)
    return next(i for i, (a, b) in enumerate(zip(left, (*right, -1), strict=False)) if a != b)
