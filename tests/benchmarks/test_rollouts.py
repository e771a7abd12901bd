"""Whole steps are judged: their time by a straight line, their memory by that of the smallest."""

import pytest

from benchmarks.rollouts import STEP_SIZES, describe_steps


def step(episodes: int, *, seconds: float, peak_mb: float) -> dict[str, object]:
    parts = {"rollout": seconds / 2, "learn": seconds / 2, "held_mb": 500.0}
    return {"spec": {"episodes": episodes}, "seconds": seconds, "peak_mb": peak_mb, **parts}


@pytest.mark.parametrize(
    ("power", "grows_mb", "told", "is_fine"),
    [
        (1.0, 0.0, "linear within 15%. The highest peak of memory is +0%", True),
        (1.0, 0.3, "time is linear within 15%. The highest peak of memory is +10%", True),
        (1.5, 0.0, "time is not linear", False),
        (1.0, 1.0, "memory is not flat", False),
    ],
    ids=["fine", "nearly flat", "bent", "growing"],
)
def test_steps_are_judged(power: float, grows_mb: float, told: str, is_fine: bool) -> None:
    rows = [
        step(n, seconds=2 + 0.5 * n**power, peak_mb=700 + grows_mb * (n - 16)) for n in STEP_SIZES
    ]
    lines, found = describe_steps(rows)
    assert told in lines[0] and found == is_fine
