"""Scripts meet the same windows in all cells, and the checks fail when what they name is broken."""

from typing import Any

import pytest

from benchmarks import ablation, strategies
from benchmarks.scripted import OPTIONS, Arena, list_habits, options_of
from envs.records import StopReason
from rewards.outcome import is_solved
from tests.envs.readers.long_task import BUILT
from tests.envs.world import CHAT


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    found = Arena(1, tmp_path_factory.mktemp("rows") / "rows.jsonl", 60)
    found.__dict__["chat"] = CHAT  # else a tokenizer is trained
    return found


def test_where_nothing_can_be_rewritten_habits_that_only_rewrite_are_one() -> None:
    assert list_habits("full_history")["surgical"] == [
        "plan_first",
        "evict_after_use",
        "compact_at_milestone",
        "late_compaction",
        "no_compaction",
    ]
    assert list(list_habits("learned")) == list(OPTIONS)
    assert list(list_habits("mask")) == list(list_habits("summarize"))


def test_a_disciplined_habit_solves_where_full_history_overflows(arena: Arena) -> None:
    drawn = arena._draw_window(BUILT)
    assert drawn is not None
    window, least = drawn
    assert window < least
    specs = [
        arena.spec(strategy, "compact_at_milestone", length=4)  # type: ignore[arg-type]
        for strategy in ("learned", "full_history")
    ]
    plays = [[arena.play(BUILT, each, spec) for spec in specs] for each in (window, least - 1)]
    assert all(is_solved(solved) and not is_solved(other) for solved, other in plays)
    assert any(other.stop_reason is StopReason.CONTEXT_OVERFLOW for _, other in plays)
    assert all(episode.window_tokens == window for episode in plays[0])


def row(strategy: str, solved: list[int], stops: list[str]) -> dict[str, Any]:
    spec = {"strategy": strategy, "habit": "surgical", "length": 2, "without": []}
    return {"spec": spec, "solved": solved, "stops": stops}


@pytest.mark.parametrize(
    ("plain", "stops", "holds"),
    [
        ([0, 0, 0, 0], "context_overflow", True),
        ([0, 0, 0, 0], "submitted", False),
        ([0, 0, 0, 1], "context_overflow", False),
    ],
    ids=["overflows", "gives up", "solves one"],
)
def test_the_check_holds_only_if_full_history_overflows(
    plain: list[int], stops: str, holds: bool
) -> None:
    learned = row("learned", [1, 1, 1, 0], ["submitted"] * 4)
    said, held = strategies.check([row("full_history", plain, [stops] * 4), learned])
    assert held == holds and ("FAILED" in said) == (not holds)
    assert not strategies.check([learned])[1], "nothing to compare with is no success"


def test_what_is_taken_away_changes_those_that_use_it() -> None:
    for each in ("note", "plan"):
        assert [h for h in ablation.HABITS if ablation.changes(h, each)] == ["plan_first"]
    assert all(ablation.changes(habit, "read_lines") for habit in ablation.HABITS)
    assert options_of("learned", "late_compaction", ["compact"]).rewrite == "evict"
