"""What an episode read, edited, noted and still had in view, replayed from its record alone.

Lines are named by path and number in the broken files, as the spans of the gold patch are: what an
edit moved is followed back. An edit makes the lines that it replaced new, so reading them again is
no re-read; its own result shows them. A stub and a note point to lines, and so does `PATH:4-9` in a
summary.

    read_back(episode).reads[0].lines      # ("calc.py", 4), ("calc.py", 5), ...

Limits: a stub names the first two spans of what was evicted; the code of a search or a read counts,
that in a traceback of the tests does not.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from envs.records import (
    Compacted,
    Episode,
    Event,
    Evicted,
    Noted,
    Observation,
    Observed,
    Opened,
    Sampled,
    Span,
    ToolCall,
)

Line = tuple[str, int]
"""Path, and the number in the broken file."""

READS: Final = ("read_lines", "read_file")
SHOWS: Final = ("search", *READS)
"""Tools whose results are lines of source, looked for or read."""
EDIT: Final = ("path", "start", "end", "text")
STUB_SPANS: Final = 2  # as envs/environment.py writes it
POINTER: Final = re.compile(r"([\w./-]+\.\w+):(\d{1,7})(?:-(\d{1,7}))?")
EFFECTS: Final = (Opened, Sampled, Evicted, Observed, Noted, Compacted)
MOST_POINTED: Final = 10_000  # lines of one pointer, which a model may make as long as it likes
FEW_NEEDED: Final = 0.25
"""Below this share of needed lines, `read_lines` would have been enough."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """One result that showed source.

    Attributes:
        tool: `search`, `read_lines` or `read_file`.
        num_tokens: Of its body.
        lines: What it showed, in order.
        in_view: Those of them that another result in view showed just so.
        by_pointer: Those that were shown before and left the view, but something points to them.
        lost: Those that were shown before, and nothing points to them.
    """

    tool: str
    num_tokens: int
    lines: tuple[Line, ...]
    in_view: frozenset[Line]
    by_pointer: frozenset[Line]
    lost: frozenset[Line]


@dataclass(frozen=True, kw_only=True)
class Offences:
    """Calls that a solver is charged for where `reward.process_weight` says so."""

    rereads: int
    """Reads at least half of whose lines were in view."""
    whole_files: int
    """Files read whole, less than a quarter of which the repair needs."""
    malformed: int
    """Calls that could not be read."""

    @property
    def total(self) -> int:
        """All of them; a call that is two of them counts twice."""
        return self.rereads + self.whole_files + self.malformed


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read in an episode, and what became of it."""

    reads: tuple[Read, ...]
    edited: frozenset[Line]
    noted: frozenset[Line]
    planned: bool | None
    """Whether a turn before that of the first read of a file noted lines that were then read.

    None if no file was read.
    """


def read_back(episode: Episode) -> Reading:
    """Return what an episode read, edited and noted."""
    replay = _Replay(episode)
    for event in _order_by_effect(episode.events):
        replay.take(event)
    replay.take_unseen_edits()
    return Reading(
        reads=tuple(replay.reads),
        edited=frozenset(replay.edited),
        noted=frozenset(replay.noted),
        planned=replay.planned,
    )


def needed_lines(episode: Episode) -> frozenset[Line]:
    """Return the lines that the repair needs, of an older record none."""
    return frozenset(line for span in episode.gold_spans for line in _lines_of(span))


def read_edit(call: ToolCall) -> tuple[str, int, int, int] | None:
    """Return path, first and last line of what an edit replaces, and by how many lines.

    None for another call, or one that could not be read.
    """
    path, start, end, text = (call.arguments.get(name) for name in EDIT)
    is_edit = call.name == "edit_lines" and call.error is None
    if not is_edit or not isinstance(start, int) or not isinstance(end, int):
        return None
    return str(path), start, end, _count_lines(str(text))


def count_offences(episode: Episode) -> Offences:
    """Count wasteful calls: re-reads, whole files and malformed ones."""
    needed = needed_lines(episode)
    reads = [read for read in read_back(episode).reads if read.tool in READS and read.lines]
    return Offences(
        rereads=sum(2 * len(read.in_view) >= len(set(read.lines)) for read in reads),
        whole_files=sum(
            read.tool == "read_file"
            and len(needed.intersection(read.lines)) < FEW_NEEDED * len(set(read.lines))
            for read in reads
        )
        if needed
        else 0,
        malformed=sum(call.error is not None for turn in episode.turns for call in turn.calls),
    )


@dataclass
class _Replay:
    """Goes through the events of an episode, and remembers what they leave in view."""

    episode: Episode
    turn: int = -1
    turn_seen: int = -1  # the last one whose results were shown
    reads: list[Read] = field(default_factory=list)
    edited: set[Line] = field(default_factory=set)
    noted: set[Line] = field(default_factory=set)
    plan: frozenset[Line] = frozenset()  # what was noted when a file was read first
    planned: bool | None = None
    shown: set[Line] = field(default_factory=set)  # ever, as they are now
    pointed: set[Line] = field(default_factory=set)  # by stubs and summaries
    in_view: dict[str, set[Line]] = field(default_factory=dict)  # by the result that shows them
    stubs: dict[str, list[Line]] = field(default_factory=dict)  # what they name, or would
    evicted: set[str] = field(default_factory=set)
    shifts: list[tuple[str, int, int, int]] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Go on by one event."""
        if isinstance(event, Sampled):
            self.turn += 1
        elif isinstance(event, Observed):
            # where a summary is asked for, that is the last result, and may stand for all of them
            results = event.observations[:-1] if event.asks_summary else event.observations
            if not results:
                self.take_unseen_edits()
            self.turn_seen = self.turn
            calls = self.episode.turns[self.turn].calls
            for observation, call in zip(results, calls, strict=False):
                self._observe(observation, call)
        elif isinstance(event, Noted):
            self.noted.update(self._follow(event.path, event.start, event.end))
        elif isinstance(event, Evicted):
            self.evicted.update(event.stub_ids)
            for name in event.stub_ids:
                self.in_view.pop(name, None)
                self.pointed.update(self.stubs.get(name, ()))
        elif isinstance(event, Compacted):
            self.take_unseen_edits()
            self.in_view.clear()
            self.pointed = set()
            for path, start, end in POINTER.findall(event.summary):
                self.pointed.update(self._follow(path, int(start), int(end or start)))

    def take_unseen_edits(self) -> None:
        """Take in the edits of a turn that ended in `compact` or `submit`, which shows no result.

        Before a `compact` all were carried out; what a last turn did is read no more.
        """
        if 0 <= self.turn != self.turn_seen:
            self.turn_seen = self.turn
            for call in self.episode.turns[self.turn].calls:
                self._edit(call)

    def _observe(self, observation: Observation, call: ToolCall) -> None:
        if call.error is not None or observation.was_refused:
            return
        self._edit(call)
        lines = self._originals(observation.spans)
        if call.name in SHOWS:
            self._read(observation, call, lines)
        self.shown.update(lines)
        self.stubs[observation.id] = self._originals(observation.spans[:STUB_SPANS])
        if observation.id in self.evicted:  # a strategy drops results of the very turn
            self.pointed.update(self.stubs[observation.id])
        else:
            self.in_view[observation.id] = set(lines)

    def _read(self, observation: Observation, call: ToolCall, lines: Sequence[Line]) -> None:
        again = self.shown.intersection(lines)
        held = again & set[Line]().union(*self.in_view.values())
        gone = again - held
        by_pointer = gone & (self.pointed | self.noted)
        if call.name in READS and lines:
            if self.planned is None:
                self.plan, self.planned = frozenset(self.noted), False
            self.planned = self.planned or not self.plan.isdisjoint(lines)
        self.reads.append(
            Read(
                tool=call.name,
                num_tokens=observation.num_tokens,
                lines=tuple(lines),
                in_view=frozenset(held),
                by_pointer=frozenset(by_pointer),
                lost=frozenset(gone - by_pointer),
            )
        )

    def _edit(self, call: ToolCall) -> None:
        found = read_edit(call)
        if found is None:
            return
        path, start, end, num_new = found
        replaced = set(self._follow(path, start, end))  # none by an insertion
        self.edited |= replaced or set(self._follow(path, start, start))
        self.shown -= replaced
        for lines in self.in_view.values():
            lines -= replaced
        self.shifts.append((path, start, end, num_new - (end - start + 1)))

    def _originals(self, spans: Iterable[Span]) -> list[Line]:
        return [line for each in spans for line in self._follow(each.path, each.start, each.end)]

    def _follow(self, path: str, first: int, last: int) -> Iterator[Line]:
        """Yield the lines of the broken file that stand, or stood, where these are now."""
        shifts = [shift for shift in self.shifts if shift[0] == path]
        for number in range(first, min(last, first + MOST_POINTED) + 1):
            for _, start, end, delta in reversed(shifts):
                if number > end + delta:
                    number -= delta
                elif number >= start:
                    number = min(number, max(start, end))
            yield path, number


def _order_by_effect(events: Iterable[Event]) -> list[Event]:
    """Return the events of each turn in the order in which the next view has them.

    What a turn drops is not in view beside what it reads, and its notes count the lines as its
    edits left them.
    """
    ordered: list[Event] = []
    turn: list[Event] = []
    for event in (*events, None):
        if event is None or isinstance(event, Sampled):
            ordered += sorted(turn, key=lambda each: EFFECTS.index(type(each)))
            turn = []
        if event is not None:
            turn.append(event)
    return ordered


def _lines_of(span: Span) -> Iterator[Line]:
    return ((span.path, number) for number in range(span.start, span.end + 1))


def _count_lines(text: str) -> int:
    """Count the lines of a text as `envs.source_text.text_lines` cuts them."""
    ends = re.findall(r"\r\n|\r|\n", text)
    return len(ends) + (bool(text) and text[-1] not in "\r\n")
