"""Deadlines explain the seconds in which a call hung, and nothing that others did meanwhile."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.faults import time_lines
from tests.train.recipes.faulty_run import WatchedBench


def run(play_s: float, ended: list[float], late: list[tuple[float, float]]) -> Any:
    bench = WatchedBench(None, ended, late)  # type: ignore[arg-type]
    return SimpleNamespace(bench=bench, rollouts=SimpleNamespace(play_s=play_s))


@pytest.mark.parametrize(
    ("play_s", "is_explained"), [(18.0, True), (27.0, False)], ids=["as it should", "slow"]
)
def test_what_others_did_while_a_call_hung_is_done(play_s: float, is_explained: bool) -> None:
    fine = run(20.0, [float(n) for n in range(20)], [])
    late = [(0.0, 4.0), (2.0, 6.0)]  # 6 s, in which 12 of the other 22 calls ended
    faulty = run(play_s, [n / 2 for n in range(12)] + [6.0] * 12, late)
    lines, found = time_lines(faulty, fine)
    assert found == is_explained
    assert "In 6 s at least one of 2 calls hung until its deadline; 12 others ended" in lines[1]
    assert f"Together that is 18 s: playing took {play_s / 18:.2f} times" in lines[1]
