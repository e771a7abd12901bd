"""What counts as a demonstration, and what a set of them is."""

import asyncio
from collections import Counter

import pytest

from envs.habits.options import HABITS, ScriptOptions
from envs.records import Episode
from rewards.mistakes import find_mistakes
from tests.envs.world import TASK
from tests.train.rollouts.test_runner import REQUEST, SETTINGS, Flaky, runner_with
from train.rollouts.demonstrations import draw_slot, find_fault, make_demonstrations
from train.rollouts.habit_table import COLUMNS, format_cells, tabulate_habits
from train.rollouts.runner import RolloutRunner

NAMED = {habit.name: habit for habit in HABITS}


def played(runner: RolloutRunner, name: str, options: ScriptOptions | None = None) -> Episode:
    script = lambda request: runner.make_script(TASK.id, name, options=options)  # noqa: E731
    return asyncio.run(runner.play(REQUEST, script, policy=name))


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("noop", None, "unsolved"),
        ("gold", None, "unseen"),  # it knows the answer and looks at nothing
        ("careful", ScriptOptions(rewrite="compact", eager=True), "other habit"),
        ("careful", ScriptOptions(rewrite="evict", eager=True), None),
        ("careful", ScriptOptions(rewrite="none", find="file"), "other habit"),
    ],
)
def test_a_demonstration_is_solved_with_open_eyes_and_shows_its_habit(
    name: str, options: ScriptOptions | None, fault: str | None
) -> None:
    runner = runner_with(Flaky())
    episode = played(runner, name, options)
    assert find_fault(runner, episode, NAMED["evict_after_use"]) == fault
    if fault is None:
        assert find_fault(runner, episode, errs=True) == "no mistake"
    if fault == "other habit":
        assert find_fault(runner, episode) is None, "of a teacher no habit is asked"


@pytest.mark.parametrize("strategy", ["learned", "full_history"])
def test_a_set_has_its_shares_and_the_table_counts_what_it_holds(strategy: str) -> None:
    runner = runner_with(Flaky())
    shares = {"needs_rewrite_share": 0.0, "mistake_share": 0.3, "wasteful_share": 0.25}
    sft = SETTINGS.sft.model_copy(update={"num_demonstrations": 40, **shares})
    wide = {"window_tokens": (480, 700), "max_turns": 20, "strategy": strategy}
    context = SETTINGS.context.model_copy(update=wide)
    runner.settings = SETTINGS.model_copy(update={"sft": sft, "context": context})
    episodes = make_demonstrations(runner).episodes
    again = make_demonstrations(runner).episodes
    assert [each.segment_ids for each in again] == [each.segment_ids for each in episodes]
    names = Counter(episode.policy for episode in episodes)
    wasteful = sum(number for name, number in names.items() if NAMED[name].kind == "wasteful")  # type: ignore[index]
    assert abs(wasteful - 10) <= 1
    assert all(find_fault(runner, each, NAMED[each.policy]) is None for each in episodes)  # type: ignore[index]
    if strategy == "full_history":
        assert set(names) <= {name for name, habit in NAMED.items() if not habit.tools}
    rows = {row["habit"]: row for row in tabulate_habits(episodes)}
    assert {name: row["num_episodes"] for name, row in rows.items()} == {**names, "all": 40}
    whole = rows["all"]
    assert whole["mistake_share"] == sum(bool(find_mistakes(each)) for each in episodes) / 40
    assert abs(whole["mistake_share"] - 0.3) < 0.04, "all that were asked for show"
    assert whole["turns"] == sum(len(each.turns) for each in episodes) / 40
    assert whole["row_tokens"] == max(t.sample_end for each in episodes for t in each.turns)
    assert all(len(format_cells(row)) == len(COLUMNS) for row in rows.values())


def test_who_wastes_is_asked_for_no_rewrite_and_the_share_of_all_stays() -> None:
    shares = {"needs_rewrite_share": 0.3, "wasteful_share": 0.4}
    settings = SETTINGS.model_copy(update={"sft": SETTINGS.sft.model_copy(update=shares)})
    slots = [draw_slot(settings, index, [TASK]) for index in range(2000)]
    assert abs(sum(slot.needs_rewrite for slot in slots) / 2000 - 0.3) < 0.04
    assert abs(sum(slot.kind == "wasteful" for slot in slots) / 2000 - 0.4) < 0.04
    assert not any(slot.needs_rewrite for slot in slots if slot.kind == "wasteful")
