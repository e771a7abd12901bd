"""Forks are drawn of the turns at which a rewrite was possible, and of no others."""

import pytest

from envs.context.strategies import NET_FILL
from envs.environment import EpisodeMetadata, Limits
from envs.policies import call
from envs.records import Episode, StopReason, Thresholds
from tests.envs.world import FILES, new_environment, sample_of, sample_text
from train.forks.points import ForkPoint, draw_points, list_points
from train.forks.replay import split_turns

LONG = {**FILES, "long.py": "".join(f"value_{n} = {n}\n" for n in range(80))}
LIMITS = Limits(700, 8, 48, 160)
NET = Thresholds(fill=NET_FILL)
READ = [call("read_file", path="long.py")]


def play(turns: list, **other: object) -> Episode:
    environment = new_environment(**{"limits": LIMITS, "files": LONG} | other)  # type: ignore[arg-type]
    for words in turns:
        environment.step(sample_text(words) if isinstance(words, str) else sample_of(words))
    environment.stop_reason = environment.stop_reason or StopReason.TURN_LIMIT
    return environment.record(EpisodeMetadata("g", 0, 0, "any", 0, 0.0, True), outcome=None)


def points_of(*episodes: Episode, least_fill: float = 0.0) -> list[ForkPoint]:
    return list_points(episodes, max_turns=8, max_new_tokens=48, least_fill=least_fill)


def test_a_turn_counts_where_results_are_in_view_and_another_turn_follows() -> None:
    evict, compact = call("evict", observation_ids=["o1"]), call("compact", summary="x")
    episode = play([READ, [evict], [call("list_files")], [compact], READ, READ, READ, READ])
    found = points_of(episode)
    assert [(point.turn, point.rewrote) for point in found] == [
        (1, True), (2, False), (3, True), (5, False), (6, False),
    ]  # fmt: skip
    assert all(point.needs_rewrite and point.task_id == "t1" for point in found)
    for point in found:
        held = episode.turns[point.turn].prompt_end
        assert point.remaining_tokens == 700 - 48 - held
        assert point.fill == pytest.approx(held / 652)
        assert point.turns_left == 8 - point.turn


def test_a_turn_that_only_tried_to_rewrite_did_not() -> None:
    refused = call("evict", observation_ids=["o7"])
    found = points_of(play([READ, [refused], [call("compact", summary="x"), *READ], READ]))
    assert [(point.turn, point.rewrote) for point in found] == [(1, False), (2, False), (3, False)]


def test_the_limit_of_rewrites_ends_it() -> None:
    turns = [part for _ in range(9) for part in (READ, [call("compact", summary="x")])]
    found = list_points(
        [play(turns, limits=Limits(700, 18, 48, 160))], max_turns=18, max_new_tokens=48
    )
    assert [point.turn for point in found] == [1, 3, 5, 7, 9, 11, 13, 15], "eight of nine"


def test_the_answer_to_a_request_is_no_such_turn() -> None:
    episode = play([READ, READ, READ, "summed up", READ], thresholds=NET, strategy="learned_net")
    turns = split_turns(episode)
    asked = [n for n, events in enumerate(turns) if getattr(events[-1], "asks_summary", False)]
    assert asked, "the window filled up"
    found = [point.turn for point in points_of(episode)]
    assert found and not {n + 1 for n in asked} & {*found}


def test_what_the_machine_broke_and_what_is_hardly_filled_is_left_out() -> None:
    episode = play([READ, READ, READ])
    broken = episode.model_copy(update={"stop_reason": StopReason.TIMEOUT})
    found = points_of(broken, episode)
    assert [point.episode for point in found] == [1, 1]
    fills = [point.fill for point in found]
    assert [p.fill for p in points_of(episode, least_fill=fills[1])] == fills[1:]


def points(num_rewrote: int, num_others: int) -> list[ForkPoint]:
    return [
        ForkPoint(n, 1, "t", False, 0.5, 100, 4, rewrote=n < num_rewrote)
        for n in range(num_rewrote + num_others)
    ]


@pytest.mark.parametrize(
    ("num_rewrote", "num_others", "num", "expected"),
    [(50, 50, 20, (10, 10)), (3, 97, 20, (3, 17)), (97, 3, 20, (17, 3)), (4, 5, 20, (4, 5))],
)
def test_half_of_the_draw_is_of_turns_that_were_rewritten(
    num_rewrote: int, num_others: int, num: int, expected: tuple[int, int]
) -> None:
    made = points(num_rewrote, num_others)
    drawn = draw_points(made, num=num, seed=1)
    assert len(set(drawn)) == len(drawn)
    counts = [point.rewrote for point in drawn]
    assert (counts.count(True), counts.count(False)) == expected
    assert draw_points(made, num=num, seed=1) == drawn
    assert set(draw_points(made, num=num + 7, seed=1)) >= set(drawn), "more forks keep those made"
    if len(made) > num:
        assert set(draw_points(made, num=num, seed=2)) != set(drawn)
