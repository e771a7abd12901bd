"""Mistakes are found in the record: refused calls, and edits that a later one wrote over."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.records import Episode, Observation, Observed, ToolCall
from rewards.mistakes import find_mistakes
from tests.rewards.episodes import make_episode


def edit(start: int, end: int, text: str, path: str = "m.py") -> ToolCall:
    return ToolCall(
        name="edit_lines", arguments={"path": path, "start": start, "end": end, "text": text}
    )


def episode_of(turns: Sequence[tuple[ToolCall, str]]) -> Episode:
    """Return an episode of turns with a call and what was answered each."""
    made = make_episode(turns=[(100 * n + 100, 10) for n in range(len(turns))])
    events = [
        Observed(
            observations=(Observation(id=f"o{n}", text=text, num_tokens=1, remaining_tokens=9),),
            piece_ids=((1,),),
            head_ids=(),
            separator_ids=(),
            tail_ids=(),
        )
        for n, (_, text) in enumerate(turns)
    ]
    records = [
        turn.model_copy(update={"calls": (call,), "observation_ids": (f"o{n}",)})
        for n, (turn, (call, _)) in enumerate(zip(made.turns, turns, strict=True))
    ]
    return made.model_copy(update={"turns": tuple(records), "events": (*made.events[:1], *events)})


FINE, REFUSED = "[o1 9/99]\nedited\n1 x", "[o1 9/99]\nerror: no file m"


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([(edit(3, 3, "a"), FINE)], set()),
        ([(edit(3, 3, "a"), REFUSED), (edit(3, 3, "b"), FINE)], {0}),
        ([(edit(3, 3, "a"), FINE), (edit(3, 3, "b"), FINE)], {0}),
        ([(edit(3, 3, "a"), FINE), (edit(4, 4, "b"), FINE)], set()),
        ([(edit(3, 3, "a"), FINE), (edit(3, 3, "b", "n.py"), FINE)], set()),
        ([(edit(3, 3, "a"), FINE), (edit(1, 0, "b\nc"), FINE), (edit(3, 3, "d"), FINE)], set()),
        ([(edit(3, 3, "a"), FINE), (edit(1, 0, "b\nc"), FINE), (edit(5, 5, "d"), FINE)], {0}),
        ([(edit(3, 4, "a"), FINE), (edit(4, 4, "b"), FINE)], set()),
        ([(edit(3, 3, "a\nb"), FINE), (edit(4, 3, "c"), FINE)], set()),
        ([(edit(3, 3, "a"), "[o1 9/99]\n1 raise X(error: )")], set()),
        ([(ToolCall(name="edit_lines", arguments={"path": "m.py"}), FINE)], set()),
    ],
    ids=[
        "one", "refused", "again", "below", "other file", "moved away", "moved along",
        "fewer lines", "inserted into", "says error", "no edit",
    ],
)  # fmt: skip
def test_a_mistake_was_refused_or_written_over(
    turns: list[tuple[ToolCall, str]], expected: set[int]
) -> None:
    assert find_mistakes(episode_of(turns)) == expected


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3)), max_size=6),
)
def test_numbers_are_those_of_a_file_that_is_really_edited(
    edits: list[tuple[int, int, int]],
) -> None:
    lines: list[int] = [-1] * 40  # which turn wrote each
    turns, expected = [], set[int]()
    for number, (start, num_old, num_new) in enumerate(edits):
        expected |= {each for each in lines[start - 1 : start - 1 + num_old] if each >= 0}
        lines[start - 1 : start - 1 + num_old] = [number] * num_new
        text = "".join("x\n" for _ in range(num_new))
        turns.append((edit(start, start + num_old - 1, text), FINE))
    assert find_mistakes(episode_of(turns)) == expected
