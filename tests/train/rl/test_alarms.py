"""Each alarm rings for its own sign and for nothing else."""

from typing import Any

import pytest

from train.rl.alarms import find_alarms

CALM: dict[str, Any] = {
    "entropy": 0.5,
    "share_malformed_calls": 0.05,
    "grad_norm": 1.0,
    "share_groups_without_signal": 0.2,
    "mismatch_kl": 0.001,
    "sampling/share_over_10_percent": 0.12,
}


def test_a_calm_run_rings_nothing() -> None:
    assert find_alarms([]) == {}
    assert find_alarms([CALM] * 30) == {}
    assert find_alarms([{"step": 1}] * 30) == {}, "a step without rows has no such numbers"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("entropy", {"entropy": 0.14}),
        ("malformed", {"share_malformed_calls": 0.16}),
        ("gradient", {"grad_norm": 5.1}),
        ("mismatch", {"mismatch_kl": 0.011}),
        ("mismatch", {"sampling/share_over_10_percent": 0.31}),
    ],
)
def test_the_last_row_rings(name: str, change: dict[str, float]) -> None:
    assert find_alarms([CALM] * 12 + [{**CALM, **change}]).keys() == {name}
    assert find_alarms([CALM, {**CALM, **change}, CALM]) == {}, "only the last row is news"


def test_groups_without_signal_ring_when_they_stay() -> None:
    silent = {**CALM, "share_groups_without_signal": 1.0}
    assert find_alarms([CALM] * 9 + [silent]) == {}
    assert find_alarms([CALM] * 4 + [silent] * 6).keys() == {"signal"}


def test_a_gradient_norm_needs_a_history() -> None:
    assert find_alarms([CALM] * 9 + [{**CALM, "grad_norm": 50.0}]) == {}
