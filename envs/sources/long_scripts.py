"""Scripts that show that long tasks can be solved: with gold, and with nothing but what was seen.

`shown_only` knows the repair, and makes each edit only after it has read the fact, and while the
broken function is in view. `sighted` knows the grammar and no gold. It has no memory either: each
turn is decided by what one view says, so what it needs later it has to keep there, in a note or
in a summary:

    note       reads all facts first, notes them, then repairs; evicts what is used up
    compact    repairs one bug after another; compacts when the next step does not fit

It proves that tasks can be solved, and is no demonstrator of good habits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from envs.context.fitting import MIN_OBSERVATION_TOKENS
from envs.environment import Limits
from envs.policies import Script, call
from envs.records import Edit, HiddenTask, Span, ToolCall, View
from envs.rendering import ChatFormat
from envs.sources.facts import FactKind, count_rows, read_use
from envs.sources.long_view import Seen
from envs.workspace import number_lines

Habit = Literal["note", "compact"]
_HEADER = "[o99 999/9999]\n"
_MIN_FREED_SHARE = 0.12  # of the window: the environment takes 0.10
_SMALL_RESULT_TOKENS = 12  # below it the stub is no shorter than the result
# The longest that the grammar writes, to judge what a step takes.
_FUNCTION = number_lines(
    [
        "def gather(a, b):",
        '    """smaller of 9 and larger of a and b, at most the mid of m99"""',
        "    return min(8, min(9, max(a, b)))",
    ],
    start=10,
)
_LONGEST: dict[FactKind, str] = {
    "unit": "gather 9",
    "limit": "gather 9",
    "rule": "smaller of 9 and x",
}
_ROWS = {  # with the line above them
    kind: number_lines(['"""limits', *[row] * count_rows(kind)], start=1)
    for kind, row in _LONGEST.items()
}
_FOUND = "m99.py:10: def gather(a, b):"
_EDITED = "edited"  # what is cut behind it is not needed


@dataclass(frozen=True)
class _Step:
    """The calls of a turn, and the longest results they may have."""

    calls: list[ToolCall]
    results: list[str]


class _Room:
    """Fits steps into the window, with a rewrite where nothing else helps.

    Args:
        chat: Encodes calls and results.
        limits: Of the episode.
        evicts: Whether results are evicted before everything is compacted.
    """

    def __init__(self, chat: ChatFormat, limits: Limits, *, evicts: bool) -> None:
        self._chat, self._limits, self._evicts = chat, limits, evicts

    def choose_calls(
        self,
        view: View,
        step: _Step,
        *,
        kept: Sequence[Span],
        summary: str,
        moving: Sequence[str] = (),
    ) -> list[ToolCall] | None:
        """Return the calls of a step, behind an eviction or after a compaction where they must be.

        Args:
            kept: Lines that are still needed.
            summary: What a compaction leaves.
            moving: Notes that any rewrite repeats behind the task.

        Returns:
            None where no rewrite makes room.
        """
        if self._takes(step) <= self._left(view):
            return step.calls
        if view.num_rewrites >= self._limits.max_rewrites or not view.observations:
            return None
        if self._evicts and (evict := self._evict_for(view, step, kept, moving)):
            return [evict, *step.calls]
        return [call("compact", summary=summary)]

    def is_short(self, calls: Sequence[ToolCall]) -> bool:
        """Tell whether calls fit into one sample."""
        return len(self._chat.call_ids(calls)) <= self._limits.max_new_tokens

    def _left(self, view: View) -> int:
        limits = self._limits
        return limits.window_tokens - limits.max_new_tokens - len(view.prompt_ids)

    def _takes(self, step: _Step) -> int:
        parts = self._chat.surround_results([each.name for each in step.calls])
        results = (self._count(_HEADER + result) for result in step.results)
        total = len(self._chat.call_ids(step.calls)) + parts.num_tokens
        return total + sum(max(MIN_OBSERVATION_TOKENS, each) for each in results)

    def _count(self, text: str) -> int:
        return len(self._chat.encode_result(text))

    def _evict_for(
        self, view: View, step: _Step, kept: Sequence[Span], moving: Sequence[str]
    ) -> ToolCall | None:
        """Return the eviction that makes room for a step in the same turn, if there is one."""
        used_up = [
            each
            for each in view.observations
            if each.num_tokens > _SMALL_RESULT_TOKENS and not _overlap(each.spans, kept)
        ]
        evict = call("evict", observation_ids=[each.id for each in used_up])
        stub = self._count("[o99 out m99.py:10-12]")
        freed = sum(each.num_tokens - stub for each in used_up)
        longer = _Step([evict, *step.calls], ["evicted", *step.results])
        left = self._left(view) + freed - sum(self._count(f"{note}\n") for note in moving)
        fits = self._takes(longer) <= left and self.is_short(longer.calls)
        return evict if fits and freed >= _MIN_FREED_SHARE * self._limits.window_tokens else None


def shown_only(hidden: HiddenTask, *, chat: ChatFormat, limits: Limits) -> Script:
    """Make one edit of gold after another: the fact was read, the function is in view."""
    room, done = _Room(chat, limits, evicts=True), list[str]()
    view = yield []
    for edit, function, fact in _list_bugs(hidden):
        steps = [_read(fact), _read(function), _Step([_edit_call(edit)], [_EDITED])]
        while steps:
            if len(steps) == 1 and not view.shows(function):  # a rewrite took it
                steps.insert(0, _read(function))
            summary = f"fixed {' '.join(done)}"
            calls = room.choose_calls(view, steps[0], kept=[function], summary=summary)
            if calls is None:
                return
            view = yield calls
            if calls[-1:] == steps[0].calls:
                steps.pop(0)
        done.append(edit.path)
    yield [call("submit")]


def sighted(*, chat: ChatFormat, limits: Limits, habit: Habit) -> Script:
    """Repair what the statement names, each turn from what one view says; see the top."""
    room = _Room(chat, limits, evicts=habit == "note")
    view = yield []
    while True:
        seen = Seen.of(view, chat)
        step = _next_step(seen, notes_first=habit == "note")
        if not room.is_short(step.calls):
            step = _Step(step.calls[:1], step.results[:1])
        kept = seen.list_needed()
        calls = room.choose_calls(
            view, step, kept=kept, summary=seen.summarize(), moving=seen.moving
        )
        if calls is None:
            return
        view = yield calls


def _next_step(seen: Seen, *, notes_first: bool) -> _Step:
    """Return what is to be done next."""
    if notes_first and (step := _note_next(seen)):
        return step
    for module, name in seen.list_open():
        path = f"{module}.py"
        for needed in seen.needs:
            if needed not in seen.facts:
                return _read_fact(needed, seen.find_kind(f"{needed}.py"))
        start, told = seen.starts.get((path, name)), seen.find_docstring(path, name)
        if start is None:
            return _Step([call("search", pattern=f"def {name}(")], [_FOUND])
        use = read_use(told) if told else None
        if use is None:
            return _read(Span(path=path, start=start, end=start + 2))
        combination, used = use
        if used.module not in seen.facts:
            return _read_fact(used.module, used.kind)
        text = used.write(name, combination, seen.facts[used.module]).split("\n")[2]
        edit = Edit(path=path, start=start + 2, end=start + 2, text=text)
        ends = [call("submit")] if len(seen.list_open()) == 1 else []
        return _Step([_edit_call(edit), *ends], [_EDITED])
    return _Step([call("submit")], [])


def _note_next(seen: Seen) -> _Step | None:
    """Return the next note of a fact, with the reading of the one after it; None if all are."""
    left = [module for module, _ in seen.symptoms if module not in seen.noted]
    known = [module for module in left if module in seen.facts]
    unread = [module for module in left if module not in seen.facts]
    notes = [
        call("note", file=f"{each}.py", facts=seen.facts[each], lines="1-11") for each in known
    ]
    first = unread[:1]
    reads = _read_fact(first[0], seen.find_kind(f"{first[0]}.py")) if first else _Step([], [])
    step = _Step([*notes, *reads.calls], ["noted"] * len(notes) + reads.results)
    return step if step.calls else None


def _list_bugs(hidden: HiddenTask) -> list[tuple[Edit, Span, Span]]:
    """Return each edit with what it needs: gold spans are a function, then its fact."""
    spans, edits = hidden.gold_spans, {edit.path: edit for edit in hidden.gold_edits}
    pairs = zip(spans[::2], spans[1::2], strict=True)
    return [(edits[function.path], function, fact) for function, fact in pairs]


def _overlap(spans: Sequence[Span], kept: Sequence[Span]) -> bool:
    return any(
        one.path == other.path and one.start <= other.end and other.start <= one.end
        for one in spans
        for other in kept
    )


def _read(span: Span) -> _Step:
    """Read a function, or where a module begins its fact."""
    facts = [
        rows for rows in _ROWS.values() if span.start == 1 and rows.count("\n") == span.end - 1
    ]
    return _Step([_read_call(span)], [*facts, _FUNCTION][:1])


def _read_fact(module: str, kind: FactKind | None) -> _Step:
    """Read a module's fact, of an unknown kind its first line."""
    path = f"{module}.py"
    if kind is None:
        return _Step([_read_call(Span(path=path, start=1, end=1))], ['1: """limits'])
    return _Step([_read_call(Span(path=path, start=1, end=1 + count_rows(kind)))], [_ROWS[kind]])


def _read_call(span: Span) -> ToolCall:
    return call("read_lines", path=span.path, start=span.start, end=span.end)


def _edit_call(edit: Edit) -> ToolCall:
    return call("edit_lines", path=edit.path, start=edit.start, end=edit.end, text=edit.text)
