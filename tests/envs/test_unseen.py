"""Edits of lines never shown are found, against an oracle that reads the decoded prompts."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.environment import Environment, EpisodeMetadata, Limits
from envs.habits.options import ScriptOptions
from envs.policies import call
from envs.records import Edit, Episode, Observed, Span, ToolCall
from envs.unseen import find_unseen_edits, lines_to_see
from tests.envs.world import CHAT, FILES, new_environment, play, sample_of

LIMITS = Limits(window_tokens=4000, max_turns=40, max_new_tokens=100, observation_tokens=400)
FILE = {"m0.py": "".join(f"x{n} = {n}\n" for n in range(100, 120)), "m1.py": "y = 1\n"}
LOOK = call("read_lines", path="m0.py", start=4, end=6)
EDIT = call("edit_lines", path="m0.py", start=4, end=6, text="z = 0")
SUBMIT = call("submit")


def played(turns: Sequence[Sequence[ToolCall]], *, limits: Limits = LIMITS) -> Episode:
    """Return the episode of given calls, turn by turn."""
    environment = new_environment(limits=limits, files=FILE)
    for calls in turns:
        environment.step(sample_of(calls))
    return record_of(environment)


def record_of(environment: Environment) -> Episode:
    if environment.stop_reason is None:
        environment.step(sample_of([SUBMIT]))
    return environment.record(EpisodeMetadata("g", 0, 0, "script", 0, 0.0, False), outcome=None)


def edit(start: int, end: int, text: str = "z = 0") -> ToolCall:
    return call("edit_lines", path="m0.py", start=start, end=end, text=text)


def reading(start: int, end: int) -> ToolCall:
    return call("read_lines", path="m0.py", start=start, end=end)


AT_TOP = edit(1, 0, "a = 1\nb = 2")
SEEN = {
    "read before": [[LOOK], [EDIT, SUBMIT]],
    "found by a search": [[call("search", pattern="x105 ")], [edit(6, 6)]],
    "whole file": [[call("read_file", path="m0.py")], [edit(1, 20)]],
    "evicted since": [
        [call("read_file", path="m0.py")],
        [call("evict", observation_ids=["o1"]), call("list_files")],
        [edit(18, 18)],
    ],
    "compacted since": [[LOOK], [call("compact", summary="read")], [EDIT]],
    "above an edit": [
        [call("read_file", path="m0.py")],
        [edit(9, 9, "a = 1\nb = 2")],
        [edit(8, 8)],
    ],
    "its own lines": [[LOOK], [edit(4, 6, "a = 1\nb = 2\nc = 3\nd = 4")], [edit(4, 7)]],
    "its own lines, at once": [[LOOK], [edit(4, 6, "a = 1\nb = 2"), edit(4, 5)]],
    "shown around an edit": [[LOOK], [EDIT], [edit(3, 5)]],
    "insertion between two": [[LOOK], [edit(5, 4)]],
    "insertion at the top": [[call("read_lines", path="m0.py", start=1, end=1)], [edit(1, 0)]],
    "insertion behind the end": [
        [call("read_lines", path="m0.py", start=20, end=20)],
        [edit(21, 20)],
    ],
    "refused by the tool": [[edit(4, 6, "def ("), edit(30, 31), call("edit_lines", path="m0.py")]],
}
UNSEEN = {
    "never looked": ([[EDIT, SUBMIT]], [(4, 6)]),
    "read in the same turn": ([[LOOK, EDIT]], [(4, 6)]),
    "one line too many": ([[LOOK], [edit(4, 7)]], [(4, 7)]),
    "outline alone": ([[call("outline", path="m0.py")], [EDIT]], [(4, 6)]),
    "another file": ([[call("read_file", path="m1.py")], [EDIT]], [(4, 6)]),
    "insertion above what was read": ([[LOOK], [edit(4, 3)]], [(4, 3)]),
    "insertion below what was read": ([[LOOK], [edit(7, 6)]], [(7, 6)]),
    # edits move lines; in a turn that submits they are taken as carried out
    "moved down": ([[LOOK], [AT_TOP, edit(6, 8), SUBMIT]], [(1, 0)]),
    "moved away": ([[LOOK], [AT_TOP, edit(4, 6), SUBMIT]], [(1, 0), (4, 6)]),
    "moved up": ([[LOOK], [edit(1, 2, ""), edit(2, 4), SUBMIT]], [(1, 2)]),
    "moved, and read again": ([[LOOK], [AT_TOP], [reading(3, 5)], [edit(3, 5)]], [(1, 0)]),
    "read, then compacted at once": (
        [[LOOK, call("compact", summary="read")], [EDIT]],
        [(4, 6)],
    ),
    "shown in the turn of the next edit": ([[LOOK], [EDIT, edit(3, 3)]], [(3, 3)]),
}


@pytest.mark.parametrize("turns", SEEN.values(), ids=SEEN.keys())
def test_what_was_in_a_view_may_be_edited(turns: list[list[ToolCall]]) -> None:
    assert find_unseen_edits(played(turns), FILE) == ()


@pytest.mark.parametrize(("turns", "expected"), UNSEEN.values(), ids=UNSEEN.keys())
def test_what_was_not_is_found(
    turns: list[list[ToolCall]], expected: list[tuple[int, int]]
) -> None:
    found = find_unseen_edits(played(turns), FILE)
    assert found == tuple(Span(path="m0.py", start=start, end=end) for start, end in expected)


def test_a_result_that_was_cut_shows_what_is_left_of_it() -> None:
    small = Limits(window_tokens=4000, max_turns=9, max_new_tokens=100, observation_tokens=60)
    turns = [[call("read_file", path="m0.py")], [edit(1, 1)], [edit(19, 19)]]
    assert [span.start for span in find_unseen_edits(played(turns, limits=small), FILE)] == [19]


def test_gold_edits_out_of_nowhere() -> None:
    assert len(find_unseen_edits(play("gold"), FILES)) == 2
    assert find_unseen_edits(play("careful", options=ScriptOptions()), FILES) == ()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(3, 5, [3, 4, 5]), (3, 2, [2, 3]), (1, 0, [1]), (11, 10, [10]), (1, 1, [1])],
)
def test_which_lines_an_edit_needs(start: int, end: int, expected: list[int]) -> None:
    wanted = Edit(path="m0.py", start=start, end=end, text="")
    assert list(lines_to_see(wanted, num_lines=10)) == expected


def test_an_insertion_into_an_empty_file_needs_none() -> None:
    assert not lines_to_see(Edit(path="m0.py", start=1, end=0, text=""), num_lines=0)


PLACES = st.integers(1, 24)


@st.composite
def calls(draw: st.DrawFn) -> ToolCall:
    """Draw a call; new lines get a number of their own when they are played."""
    start = draw(PLACES)
    name = draw(st.sampled_from(["read", "read", "search", "edit", "edit", "evict", "compact"]))
    if name == "read":
        return call("read_lines", path="m0.py", start=start, end=start + draw(st.integers(0, 6)))
    if name == "search":
        return call("search", pattern=f"x1{draw(st.integers(0, 19)):02d} ")
    if name == "edit":
        return edit(start, start - 1 + draw(st.integers(0, 3)), "\n" * draw(st.integers(0, 3)))
    if name == "evict":
        return call("evict", observation_ids=[f"o{draw(st.integers(1, 9))}"])
    return call("compact", summary="so far")


@given(
    st.lists(st.lists(calls(), min_size=1, max_size=3), min_size=1, max_size=9),
    st.sampled_from([60, 400]),
)
@settings(max_examples=200, deadline=None)
def test_the_spans_agree_with_the_text_of_the_prompts(
    turns: list[list[ToolCall]], cap: int
) -> None:
    limits = Limits(window_tokens=4000, max_turns=40, max_new_tokens=200, observation_tokens=cap)
    environment = new_environment(limits=limits, files=FILE)
    num_written = 0
    views: list[tuple[str, list[str]]] = []
    for turn in turns:
        for index, each in enumerate(turn):
            if each.name == "edit_lines":
                num = str(each.arguments["text"]).count("\n")
                new = "\n".join(f"w{num_written + n} = 1" for n in range(num))
                turn[index] = edit(each.arguments["start"], each.arguments["end"], new)
                num_written += num
        views.append(
            (CHAT.decode(environment.view().prompt_ids), environment.workspace.lines("m0.py"))
        )
        environment.step(sample_of(turn))
        if environment.stop_reason is not None:
            break
    episode = record_of(environment)
    found = [(span.start, span.end) for span in find_unseen_edits(episode, FILE)]
    assert found == _unseen_by_text(episode, views)


def _unseen_by_text(
    episode: Episode, views: Sequence[tuple[str, list[str]]]
) -> list[tuple[int, int]]:
    """Look the lines of every edit up in all prompts so far, and in what the agent wrote."""
    texts = {
        o.id: o.text for e in episode.events if isinstance(e, Observed) for o in e.observations
    }
    found, prompts = [], ""
    for turn, (prompt, lines) in zip(episode.turns, views, strict=False):
        prompts += prompt
        results = [texts.get(name, "") for name in turn.observation_ids] or [""] * len(turn.calls)
        for each, result in zip(turn.calls, results, strict=True):
            if each.name != "edit_lines" or "\nerror: " in result:
                continue
            start, end = each.arguments["start"], each.arguments["end"]
            beside = lines[max(0, start - 2) : start] if end < start else lines[start - 1 : end]
            if not all(
                line.startswith("w") or re.search(rf"\d: {line}(\n|<)", prompts) for line in beside
            ):
                found.append((start, end))
            lines[start - 1 : end] = str(each.arguments["text"]).splitlines()
    return found
