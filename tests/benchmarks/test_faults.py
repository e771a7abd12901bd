"""A deadline explains the time of the episode whose call hung, and not of others."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.faults import time_lines
from tests.train.recipes.faulty_run import WatchedBench, WatchedCall


def run(play_s: float, calls: list[WatchedCall]) -> Any:
    bench = WatchedBench(None, calls)  # type: ignore[arg-type]
    return SimpleNamespace(bench=bench, rollouts=SimpleNamespace(play_s=play_s))


def turns(step: int, episode: str, num: int) -> list[WatchedCall]:
    return [WatchedCall(step, episode, 0.1, False)] * num


def late(step: int, episode: str) -> WatchedCall:
    return WatchedCall(step, episode, 2.0, True)


@pytest.mark.parametrize(
    ("play_s", "is_explained"), [(6.4, True), (8.0, False)], ids=["as it should", "held up"]
)
def test_an_episode_that_hangs_holds_up_no_other(play_s: float, is_explained: bool) -> None:
    fine = run(6.0, [*turns(0, "a", 4), *turns(0, "b", 6), *turns(1, "a", 6)])  # 0.5 s a turn
    # One hangs while the other goes on; then both hang at a time.
    faulty = run(
        play_s,
        [
            *(*turns(0, "a", 2), late(0, "a"), *turns(0, "b", 6)),
            *(late(1, "a"), *turns(1, "a", 2), late(1, "b"), *turns(1, "b", 2)),
        ],
    )
    lines, found = time_lines(faulty, fine)
    assert found == is_explained
    assert "3 turns hung until their deadline, 6 s in all" in lines[1]
    assert f"would have taken 6 s: it took {play_s / 6:.2f} times that" in lines[1]
