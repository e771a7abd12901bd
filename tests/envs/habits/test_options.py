"""Each habit shows in the record of an episode that is played with it, and in no other way."""

import random
from collections import Counter
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from envs.environment import EpisodeMetadata, Limits
from envs.habits.mistakes import MISTAKES, Mistake
from envs.habits.options import (
    HABITS,
    Habit,
    ScriptOptions,
    draw_habit,
    draw_options,
    leave_out,
)
from envs.policies import ScriptedPolicy, make_script
from envs.records import Behaviour, Edit, Episode, Span, TestReport
from envs.unseen import find_unseen_edits
from rewards.cost import num_compactions, num_evictions
from rewards.mistakes import find_mistakes
from rewards.reading import read_back
from tests.envs.test_policies import EDITS, LONG, repaired
from tests.envs.world import CHAT, FILES, HIDDEN, TASK, new_environment

ONE_FILE = tuple(edit for edit in EDITS if edit.path == "m0.py")
WIDE = Limits(window_tokens=4000, max_turns=60, max_new_tokens=48, observation_tokens=300)


def play(
    options: ScriptOptions,
    *,
    limits: Limits = WIDE,
    edits: tuple[Edit, ...] = ONE_FILE,
    spans: tuple[Span, ...] = (),
    files: dict[str, str] = LONG,
) -> tuple[Episode, bool]:
    """Play a script; returns its episode, and whether it repaired all."""
    hidden = HIDDEN.model_copy(update={"gold_edits": edits, "gold_spans": spans})

    def run_visible(files: dict[str, str], selector: str) -> TestReport:
        wrong = not all(edit.text in files[edit.path] for edit in edits)
        return TestReport(num_passed=1, failures=(("t", "wrong"),) if wrong else ())

    environment = new_environment(limits=limits, files=files, run_visible=run_visible)
    script = make_script(
        "careful", task=TASK, hidden=hidden, files=files, chat=CHAT, options=options
    )
    policy = ScriptedPolicy(script, chat=CHAT, max_new_tokens=limits.max_new_tokens)
    while environment.stop_reason is None:
        environment.step(policy.next_sample(environment.view()))
    episode = environment.record(EpisodeMetadata("g", 0, 0, "p", 0, 0.0, False), outcome=None)
    return episode, repaired(environment, edits, files)


def calls_of(episode: Episode) -> list[str]:
    return [call.name for turn in episode.turns for call in turn.calls]


def shows(habit: Habit, episode: Episode) -> bool:
    return habit.shows(
        num_evictions=num_evictions(episode),
        num_compactions=num_compactions(episode),
        plans=bool(read_back(episode).planned),
    )


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.name)
def test_a_habit_shows_in_some_window_and_repairs_with_open_eyes(habit: Habit) -> None:
    for window in (300, 320, 340, 360, 380, 400, 420, 440, 760):
        limits = Limits(
            window_tokens=window, max_turns=30, max_new_tokens=48, observation_tokens=160
        )
        for files, edits in ((FILES, HIDDEN.gold_edits), (LONG, ONE_FILE)):
            options = draw_options(habit, rng=random.Random(window))
            episode, is_repaired = play(options, limits=limits, edits=edits, files=files)
            assert find_unseen_edits(episode, files) == ()
            if is_repaired and shows(habit, episode):
                return
    pytest.fail(f"{habit.name} never showed")


def test_a_plan_names_what_is_read_before_the_first_read_and_outlives_a_rewrite() -> None:
    tight = Limits(window_tokens=430, max_turns=30, max_new_tokens=48, observation_tokens=160)
    options = ScriptOptions(plan=True, rewrite="compact")
    episode, is_repaired = play(options, limits=tight)
    assert is_repaired and num_compactions(episode)
    names = calls_of(episode)
    first_read = names.index("read_lines")
    assert names[:first_read].count("note") == len(ONE_FILE)
    planned = [c.arguments["lines"] for t in episode.turns for c in t.calls if c.name == "note"]
    read = [
        f"{c.arguments['start']}-{c.arguments['end']}"
        for turn in episode.turns
        for c in turn.calls
        if c.name == "read_lines"
    ]
    assert read == planned, "what was planned is read, and nothing else"
    assert "search" not in names[first_read:], "it does not look again for what it noted"


def test_late_compaction_waits_until_a_result_is_cut_and_leaves_a_pointer() -> None:
    for window in range(330, 520, 10):
        limits = Limits(
            window_tokens=window, max_turns=30, max_new_tokens=48, observation_tokens=160
        )
        late, is_repaired = play(ScriptOptions(rewrite="compact", late=True), limits=limits)
        foreseen, _ = play(ScriptOptions(rewrite="compact"), limits=limits)
        if is_repaired and num_compactions(late) == num_compactions(foreseen) == 1:
            break
    at = calls_of(late).index("compact")
    assert at > calls_of(foreseen).index("compact")
    calls = [call for turn in late.turns for call in turn.calls]
    (summary,) = [call.arguments["summary"] for call in calls if call.name == "compact"]
    start, _, end = str(summary).rpartition(":")[2].partition("-")
    following = next(call for call in calls[at:] if call.name == "read_lines")
    assert (following.arguments["start"], following.arguments["end"]) == (int(start), int(end))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_made_once_found_in_the_record_and_repaired(mistake: Mistake) -> None:
    plain, _ = play(ScriptOptions(submit_with_edit=True))
    episode, is_repaired = play(ScriptOptions(submit_with_edit=True, mistake=mistake))
    assert is_repaired and find_unseen_edits(episode, LONG) == ()
    (number,) = find_mistakes(episode)
    assert find_mistakes(plain) == frozenset()
    without = [turn.calls for n, turn in enumerate(episode.turns) if n != number]
    if mistake == "wrong_fix":
        assert calls_of(episode)[number + 1] == "run_tests"
        del without[number]
    assert without == [turn.calls for turn in plain.turns]


def test_a_fact_from_elsewhere_is_read_before_the_edit_that_needs_it() -> None:
    fact = Span(path="m1.py", start=5, end=6)
    spans = (Span(path="m0.py", start=1, end=4), fact, Span(path="m0.py", start=86, end=88))
    episode, is_repaired = play(ScriptOptions(), spans=spans)
    assert is_repaired
    calls = [call for turn in episode.turns for call in turn.calls]
    (at,) = [n for n, c in enumerate(calls) if c.arguments.get("path") == "m1.py"]
    assert (calls[at].arguments["start"], calls[at].arguments["end"]) == (5, 6)
    assert calls[at + 1].name == "edit_lines" and calls[at + 1].arguments["start"] == 3
    blind = Limits(window_tokens=4000, max_turns=60, max_new_tokens=48, observation_tokens=32)
    edits = (ONE_FILE[0],)
    long_fact = (spans[0], Span(path="m1.py", start=1, end=30))
    _, is_repaired = play(ScriptOptions(), limits=blind, edits=edits, spans=long_fact)
    assert not is_repaired, "what it could not see it does not act on"


def test_calls_that_do_not_fit_into_a_turn_wait_for_the_next() -> None:
    limits = Limits(window_tokens=4000, max_turns=60, max_new_tokens=30, observation_tokens=300)
    edits = (ONE_FILE[0],)
    episode, is_repaired = play(ScriptOptions(plan=True), limits=limits, edits=edits)
    assert is_repaired and find_mistakes(episode) == frozenset()
    assert all(event.finish == "stop" for event in episode.events if event.kind == "sampled")


def test_each_kind_draws_its_own_habits_and_only_those_with_tools() -> None:
    rng = random.Random(0)
    tight = Counter(draw_habit("careful", rng=rng, needs_rewrite=True).name for _ in range(4000))
    assert set(tight) == {h.name for h in HABITS if h.kind == "careful" and h.tight}
    evicting = sum(tight[name] for name in ("surgical", "outline_first", "evict_after_use"))
    assert 0.4 < evicting / 4000 < 0.6, "about half evict"
    roomy = {draw_habit("careful", rng=rng, tools=()).name for _ in range(500)}
    assert roomy == {"surgical", "outline_first", "no_compaction"}
    single = {draw_habit("wasteful", rng=rng, num_sites=1).name for _ in range(100)}
    assert single == {"whole_file", "second_looks"}
    drawn = [draw_options(HABITS[0], rng=rng, errs=errs).mistake for errs in (False, True) * 50]
    assert set(drawn[::2]) == {None} and set(drawn[1::2]) == set(MISTAKES)


SETS = [{each} for each in get_args(Behaviour)]
SETS += [{"note", "evict", "compact"}, {"search", "outline"}, {"search", "read_lines"}]


@pytest.mark.parametrize("without", SETS, ids=lambda without: "_".join(sorted(without)))
def test_every_habit_gets_by_without_a_tool_and_does_not_call_it(without: set[str]) -> None:
    for habit, window in product(HABITS, (330, 430, 4000)):
        options = leave_out(draw_options(habit, rng=random.Random(0)), without)
        limits = replace(WIDE, window_tokens=window)
        edits = HIDDEN.gold_edits
        episode, is_repaired = play(options, limits=limits, edits=edits, files=FILES)
        assert without.isdisjoint(calls_of(episode))
        assert find_unseen_edits(episode, FILES) == ()
        assert is_repaired or window < 4000
        assert "plan" not in without or not read_back(episode).planned


def test_where_the_rewrite_of_a_habit_is_missing_the_other_one_serves() -> None:
    assert leave_out(ScriptOptions(rewrite="evict"), {"evict"}).rewrite == "compact"
    assert leave_out(ScriptOptions(rewrite="compact"), {"compact"}).rewrite == "evict"
    assert leave_out(ScriptOptions(rewrite="none"), {"evict"}).rewrite == "none"
    assert leave_out(ScriptOptions(find="outline"), {"outline"}).find == "search"
