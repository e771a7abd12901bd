"""The least peak is exact, and readers see before they edit."""

from dataclasses import replace

import pytest

from envs.environment import Environment
from envs.policies import call
from envs.prompts import SYSTEM_SHORT
from envs.readers.least_peak import LeastPeak, list_family, list_scripts, measure_least_peak
from envs.readers.plans import edit_call, list_rewriting
from envs.readers.play import Game
from tests.envs.readers.long_task import EDITS, FILES, HIDDEN_LONG, LIMITS, LONG, new_game
from tests.envs.world import CHAT, HIDDEN, TASK
from tests.envs.world import FILES as SHORT_FILES


def measure(**changes: int) -> LeastPeak:
    limits = replace(LIMITS, **changes)
    return measure_least_peak(
        LONG, HIDDEN_LONG, FILES, chat=CHAT, system=SYSTEM_SHORT, limits=limits
    )


def test_some_reader_solves_at_the_least_peak_and_none_below_it() -> None:
    found, game = measure(), new_game()
    assert found.window is not None
    family = list(list_family(game))
    assert any(play(found.window).solved for _, play in family)
    assert not any(play(found.window - less).solved for _, play in family for less in (1, 2, 20))


def test_the_room_is_what_the_prompt_leaves() -> None:
    found = measure()
    assert found.window is not None and found.room is not None
    opened = Environment(
        LONG,
        FILES,
        chat=CHAT,
        system=SYSTEM_SHORT,
        limits=replace(LIMITS, window_tokens=found.window),
        strategy="full_history",
    )
    assert found.room == found.window - len(opened.view().prompt_ids)


def test_a_long_task_can_be_solved_below_its_least_peak_by_rewriting_only() -> None:
    found, game = measure(), new_game()
    assert found.floor is not None and found.window is not None and found.floor < found.window
    scripts = list(list_scripts(game))
    assert any(play(found.floor).solved for play in scripts)
    assert not any(play(found.floor - less).solved for play in scripts for less in (1, 9))


@pytest.mark.parametrize(("max_turns", "most"), [(40, 4), (16, 4), (12, 3), (8, 2), (7, 1)])
def test_few_turns_leave_few_compactions_and_need_a_larger_window(
    max_turns: int, most: int
) -> None:
    game = new_game(max_turns=max_turns, max_new_tokens=96)  # of two edits
    plans = list(
        list_rewriting(
            game.needs, game.sources, fits=game.fits, max_turns=max_turns, max_rewrites=8
        )
    )
    parts = [1 + sum(call.name == "compact" for turn in plan for call in turn) for plan in plans]
    assert max(parts) == most and all(len(plan) <= max_turns for plan in plans)
    found = measure(max_turns=max_turns, max_new_tokens=96)
    assert found.floor is not None and found.window is not None
    assert (found.floor < found.window) == (most > 1)
    if most < 4:
        more = measure(max_turns=16, max_new_tokens=96)
        assert more.floor is not None and more.floor < found.floor


def test_a_script_that_rewrites_looks_before_it_reads_and_leaves_no_edit_out() -> None:
    game = new_game(max_new_tokens=96)
    (first, *_) = list_rewriting(
        game.needs, game.sources, fits=game.fits, max_turns=40, max_rewrites=1
    )
    names = [[call.name for call in turn] for turn in first]
    half = [["search"] * 2, ["read_lines"] * 2, ["read_lines"] * 2]
    edits = ["edit_lines"] * 2
    assert names == [*half, [*edits, "compact"], *half, [*edits, "submit"]]


def test_a_short_task_has_next_to_nothing_to_gain_from_rewriting() -> None:
    found = measure_least_peak(
        TASK, HIDDEN, SHORT_FILES, chat=CHAT, system=SYSTEM_SHORT, limits=LIMITS
    )
    assert found.window is not None and found.floor is not None
    assert found.floor > 0.95 * found.window


def test_an_edit_that_no_turn_holds_leaves_no_reader() -> None:
    assert measure(max_new_tokens=16) == LeastPeak(None, None, None, "")


def test_whoever_has_not_seen_the_fact_does_not_edit() -> None:
    game = Game(LONG, HIDDEN_LONG, FILES, CHAT, SYSTEM_SHORT, LIMITS)
    reads = [call("read_lines", path=f"m{n}.py", start=3, end=5) for n in range(4)]
    facts = [call("read_lines", path=f"m{n}.py", start=1, end=1) for n in range(4)]
    edits = [(edit_call(edit),) for edit in EDITS]
    end = ((call("submit"),),)
    blind = (*((each,) for each in reads), *edits, *end)
    assert not game.play(blind, 5000).solved
    assert game.play((*((each,) for each in facts), *blind), 5000).solved
    forgetful = (*((each,) for each in facts), (call("compact", summary="read"),), *blind)
    assert not game.play(forgetful, 5000).solved
