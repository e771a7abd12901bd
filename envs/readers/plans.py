"""Plans of readers: which calls, in which turns; edits as late as they can be, calls together.

What an edit says back has to be held until the end, so as many edits as one turn takes stand in the
last one, with `submit`. Calls of a turn share its frame. Within a turn reads come first: their
results are wanted whole, those of edits may be cut.

Tests: tests/envs/readers/test_least_peak.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from envs.policies import call
from envs.readers.needs import Line, Need
from envs.readers.reads import Read, Sources
from envs.records import Edit, ToolCall
from envs.source_text import source_lines
from envs.workspace import number_lines

_MOST_EDITS = 10  # of which all choices for the last turn are tried; of more the first that fit
_MOST_SEARCHED = 16  # characters: "def " and a name
_SUBMIT = call("submit")

Fits = Callable[[Sequence[ToolCall]], bool]
"""Tells whether calls can be written in one turn."""


Plan = tuple[tuple[ToolCall, ...], ...]
"""The calls of each turn."""


@dataclass(frozen=True)
class _Step:
    """One call of a plan.

    Attributes:
        call: The call.
        need: What is edited; None for a read.
        shows: Needed lines that a read shows.
    """

    call: ToolCall
    need: Need | None = None
    shows: frozenset[Line] = frozenset()


def edit_call(edit: Edit) -> ToolCall:
    """Return the call that makes an edit."""
    return call("edit_lines", path=edit.path, start=edit.start, end=edit.end, text=edit.text)


def plan_together(
    needs: Sequence[Need],
    reads: Sequence[Read],
    *,
    last: Sequence[int],
    fits: Fits,
    most: int | None = None,
) -> Plan | None:
    """Return a plan that holds all it reads to the end; None if an edit fits into no turn.

    Args:
        needs: The edits.
        reads: What shows all that they need.
        last: Which edits are made in the last turn.
        fits: Tells what can be written in one turn.
        most: Most calls in a turn before the last one.
    """
    if not all(fits([edit_call(need.edit)]) for need in needs):
        return None
    early = [need for place, need in enumerate(needs) if place not in last]
    wanted = frozenset[Line]().union(*(need.to_see for need in early))
    # What ends a turn needs room for the longest header: a long result, whose own is long. Before
    # an edit a short one: the fewer tokens are left behind the others, the shorter their headers.
    sign = -1 if early else 1
    ordered = sorted(reads, key=lambda read: (read.shows.isdisjoint(wanted), sign * read.answer))
    steps = [_Step(read.call, shows=read.shows) for read in ordered]
    steps += [_Step(edit_call(need.edit), need) for need in early]
    turns = _pack(steps, lambda calls: len(calls) <= (most or len(calls)) and fits(calls))
    end = [edit_call(needs[place].edit) for place in last]
    if not fits([*end, _SUBMIT]):
        turns, end = [*turns, end], []
    return tuple(map(tuple, (*turns, [*end, _SUBMIT])))


def list_rewriting(
    needs: Sequence[Need], sources: Sources, *, fits: Fits, max_turns: int, max_rewrites: int
) -> Iterator[Plan]:
    """Yield plans that compact behind every few edits; those that compact most come first.

    They work as one does who has to look: searches for functions, then reads the whole of them,
    which says where facts stand, then reads these, then edits and compacts (which is refused where
    an edit of the same turn was). Calls of one kind share a turn, or each has one of its own.

    Args:
        needs: The edits.
        sources: The workspace.
        fits: Tells what can be written in one turn.
        max_turns: Plans of more turns are left out.
        max_rewrites: So many compactions at most.
    """
    for num_groups in range(min(len(needs), max_rewrites + 1), 0, -1):
        stages = _list_stages(needs, sources, num_groups)
        packed = tuple(tuple(turn) for stage in stages for turn in _fill(stage, fits))
        singly = tuple((each,) for stage in stages for each in stage)
        yield from (plan for plan in (packed, singly) if len(plan) <= max_turns)


def _list_stages(needs: Sequence[Need], sources: Sources, num_groups: int) -> list[list[ToolCall]]:
    """Return the calls for so many groups of edits, one group after the other, those of a kind."""
    stages: list[list[ToolCall]] = []
    for at in range(num_groups):
        start, done = (len(needs) * each // num_groups for each in (at, at + 1))
        group = needs[start:done]
        spans = dict.fromkeys(span for need in group for span in need.around)
        firsts = [sources.text_of((span.path, span.start)).strip() for span in spans]
        searches = [call("search", pattern=first[:_MOST_SEARCHED]) for first in firsts if first]
        facts = dict.fromkeys(span for need in group for span in need.facts)
        compact = call("compact", summary=f"{done} of {len(needs)} fixed")
        stages += [
            searches,
            [call("read_lines", **span.model_dump()) for span in spans],
            [call("read_lines", **span.model_dump()) for span in facts],
            [*(edit_call(need.edit) for need in group), compact if done < len(needs) else _SUBMIT],
        ]
    return stages


def _fill(calls: Sequence[ToolCall], fits: Fits) -> list[list[ToolCall]]:
    """Deal calls out to turns in their order, as many to each as fit."""
    turns: list[list[ToolCall]] = []
    for each in calls:
        if turns and fits([*turns[-1], each]):
            turns[-1].append(each)
        else:
            turns.append([each])
    return turns


def _pack(steps: Sequence[_Step], fits: Fits) -> list[list[ToolCall]]:
    """Put each step into the first turn that has room, edits behind all that they need.

    An edit moves lines, so reads of the same file, and searches, are not put behind it.
    """
    turns: list[list[_Step]] = []
    for step in steps:
        first = _find_first(step, turns)
        for turn in turns[first:]:
            if fits([each.call for each in (*turn, step)]):
                turn.append(step)
                break
        else:
            turns.append([step])
    return [[step.call for step in turn] for turn in turns]


def _find_first(step: _Step, turns: Sequence[Sequence[_Step]]) -> int:
    if step.need is None:
        return 0
    first = 0
    for index, turn in enumerate(turns):
        for other in turn:
            if other.need is None and other.shows & step.need.to_see:
                first = index + 1
            elif other.need or other.call.name == "search" or _path(other) == _path(step):
                first = max(first, index)
    return first


def _path(step: _Step) -> str:
    return str(step.call.arguments.get("path"))


def choose_last(needs: Sequence[Need], sources: Sources, fits: Fits) -> list[list[int]]:
    """Return which edits may stand in the last turn, beside `submit` if it fits.

    Those that would take most of the window, were they made before: with what is said to them, or,
    as the answers of the last turn but one may be cut short, without.
    """
    calls = [sources.count_call(edit_call(need.edit)) for need in needs]
    whole = [_count_answer(need, sources) + own for need, own in zip(needs, calls, strict=True)]
    found: list[list[int]] = []
    for tokens in (whole, calls):
        best, saved = [len(needs) - 1], -1
        for chosen in _choices(len(needs)):
            worth = sum(tokens[place] for place in chosen)
            if worth <= saved or not _can_be_last(chosen, needs):
                continue
            if fits([*(edit_call(needs[place].edit) for place in chosen), _SUBMIT]):
                best, saved = chosen, worth
        found += [best] if best not in found else []
    return found


def _choices(number: int) -> Iterator[list[int]]:
    """Yield sets of edits, large ones first."""
    if number > _MOST_EDITS:
        yield from (list(range(start, number)) for start in range(number))
        return
    for mask in sorted(range(1 << number), key=lambda mask: (-mask.bit_count(), mask)):
        yield [place for place in range(number) if mask >> place & 1]


def _can_be_last(chosen: Sequence[int], needs: Sequence[Need]) -> bool:
    """Tell whether no edit that is made before one of `chosen` moves its lines."""
    return not any(
        _moves(early.edit) and early.edit.path == needs[late].edit.path
        for place, early in enumerate(needs)
        if place not in chosen
        for late in chosen
        if late < place
    )


def _moves(edit: Edit) -> bool:
    return len(source_lines(edit.text)) != edit.end - edit.start + 1


def _count_answer(need: Need, sources: Sources) -> int:
    """Return about how many tokens the answer to an edit takes."""
    edit, lines = need.edit, source_lines(need.edit.text)
    around = [*sources.lines[edit.path][max(0, edit.start - 2) : edit.start - 1], *lines]
    around += sources.lines[edit.path][edit.end : edit.end + 1]
    return sources.count(number_lines(around, edit.start))
