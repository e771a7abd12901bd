"""Continuous admission is judged against waves of as many episodes at a time."""

from pathlib import Path
from typing import get_args

import pytest

from benchmarks.slow_tools import OLD, Measured, Side, describe, take_out


def rows_of(seconds: tuple[float, ...], *, num_tokens: int = 100) -> list[Measured]:
    kinds = [(side, at_a_time) for at_a_time in (32, 48) for side in get_args(Side)]
    rows = [
        Measured(side, at_a_time, 0, each, 1.0, 100)
        for (side, at_a_time), each in zip(kinds, seconds, strict=True)
    ]
    return [*rows[:-1], Measured("continuous", 48, 0, seconds[-1], 1.0, num_tokens)]


@pytest.mark.parametrize(
    ("seconds", "is_fine"),
    [
        ((36.0, 30.0, 20.0, 36.0, 30.0, 18.0), True),
        ((36.0, 60.0, 22.0, 36.0, 60.0, 18.0), False),
    ],
    ids=["reached", "only with more at a time, or against waves of today"],
)
def test_both_sides_play_as_many_episodes_at_a_time(
    seconds: tuple[float, ...], is_fine: bool
) -> None:
    text, found = describe(rows_of(seconds))
    assert found == is_fine
    assert f"is {'reached' if is_fine else 'not reached'}" in text
    assert "| 48 | continuous | 18.0 | 1.0 | 100 | 320 | 2.00x |" in text


def test_a_side_that_samples_otherwise_is_not_fine() -> None:
    text, is_fine = describe(rows_of((36.0, 30.0, 20.0, 36.0, 30.0, 18.0), num_tokens=99))
    assert not is_fine and "DIFFERENT" in text


def test_the_code_of_the_commit_is_there(tmp_path: Path) -> None:
    try:
        take_out(OLD, tmp_path)
    except Exception as error:
        pytest.skip(f"no history here: {error}")
    assert "class Engine" in (tmp_path / "train/generate.py").read_text("utf-8")
