"""Continuous admission is judged against waves of as many episodes at a time."""

import pytest

from benchmarks.slow_tools import Measured, describe


@pytest.mark.parametrize(
    ("seconds", "is_fine"),
    [((36.0, 20.0, 36.0, 18.0), True), ((36.0, 22.0, 36.0, 18.0), False)],
    ids=["reached", "only with more at a time"],
)
def test_both_sides_play_as_many_episodes_at_a_time(
    seconds: tuple[float, ...], is_fine: bool
) -> None:
    kinds = [(True, 32), (False, 32), (True, 48), (False, 48)]
    rows = [Measured(*kind, each, 100) for kind, each in zip(kinds, seconds, strict=True)]
    text, found = describe(rows)
    assert found == is_fine
    assert f"is {'reached' if is_fine else 'not reached'}" in text
    assert "| 48 | continuous | 18.0 | 100 | 320 | 2.00x |" in text
