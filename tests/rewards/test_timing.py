"""Timing is the value where one rewrites less that where one does not; luck has none."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.timing import (
    Fork,
    compare_timing,
    list_thresholds,
    pool_differences,
    pool_seeds,
    summarize_timing,
    weigh,
)


def fork(task: int = 0, *, rewrote: bool = False, value: float = 0.0, **other: Any) -> Fork:
    return Fork(
        task_id=f"t{task}",
        rewrote=rewrote,
        value=value,
        **{
            "fill": 0.5,
            "remaining_tokens": 100,
            "turns_left": 4,
            "needs_rewrite": False,
            "solved": value,
            "tokens": -100 * value,
            "by_kind": {"evict": value, "compact": value - 1},
            **other,
        },
    )


def rule(found: dict[str, Any], name: str, tokens: int | None = None) -> dict[str, Any]:
    (row,) = [row for row in found["rules"] if (row["rule"], row["tokens"]) == (name, tokens)]
    return row


# It pays where little is left; the policy rewrites in just those turns, but for one of each.
GOOD = [
    fork(
        n % 10,
        rewrote=n % 4 == 0 or n == 7,
        value=value,
        remaining_tokens=left,
        fill=1 - left / 400,
    )
    for n in range(40)
    for value, left in [(1.0, 20 + n) if n % 4 == 0 or n in (6, 10) else (-0.5, 200 + n)]
]


def test_timing_and_gain_are_the_means_that_they_are_said_to_be() -> None:
    found = summarize_timing(GOOD)
    chosen = [f.value for f in GOOD if f.rewrote]
    others = [f.value for f in GOOD if not f.rewrote]
    where, elsewhere = sum(chosen) / len(chosen), sum(others) / len(others)
    assert found["where_rewrites"]["value"] == pytest.approx(where)
    assert found["elsewhere"]["value"] == pytest.approx(elsewhere)
    assert found["timing"]["value"] == pytest.approx(where - elsewhere)
    assert rule(found, "learned")["gain"]["value"] == pytest.approx(sum(chosen) / len(GOOD))
    low, high = found["timing"]["ci95"]
    assert low < found["timing"]["value"] < high
    assert found["solved"]["value"] == pytest.approx(found["value"]["value"])
    assert found["tokens"]["value"] == pytest.approx(-100 * found["value"]["value"])
    kinds = [found["by_kind"][kind]["value"]["value"] for kind in ("evict", "compact")]
    assert kinds[0] == pytest.approx(kinds[1] + 1)


def test_chance_has_no_timing_never_gains_nothing_and_a_rule_that_fits_has_the_most() -> None:
    found = summarize_timing(GOOD)
    learned, chance, never = (rule(found, name) for name in ("learned", "random", "never"))
    assert chance["frequency"]["value"] == pytest.approx(learned["frequency"]["value"])
    assert chance["timing"]["value"] == pytest.approx(0)
    mean = found["value"]["value"]
    assert chance["gain"]["value"] == pytest.approx(chance["frequency"]["value"] * mean)
    assert never["gain"]["value"] == 0
    assert never["timing"]["value"] is None, "it rewrites nowhere"
    assert never["learned_minus"]["gain"]["value"] == learned["gain"]["value"]
    swept = [row for row in found["rules"] if row["rule"] == "remaining <"]
    assert [row["tokens"] for row in swept] == list_thresholds(GOOD)
    best = max(swept, key=lambda row: row["gain"]["value"])
    assert best["timing"]["value"] == pytest.approx(1.5), "all that pay, and no others"
    assert best["learned_minus"]["timing"]["value"] < 0
    frequencies = [row["frequency"]["value"] for row in swept]
    assert frequencies == sorted(frequencies)


def test_forks_stand_for_the_turns_that_they_were_drawn_from() -> None:
    """Half of the forks are of turns that were rewritten, which are few."""
    drawn = [fork(n, rewrote=n % 2 == 0, value=float(n % 2 == 0)) for n in range(20)]
    found = summarize_timing(weigh(drawn, num_rewrote=10, num_others=90))
    assert found["value"]["value"] == pytest.approx(0.1)
    assert rule(found, "learned")["frequency"]["value"] == pytest.approx(0.1)
    assert found["timing"]["value"] == pytest.approx(1.0)
    assert weigh([fork(rewrote=True)], num_rewrote=3, num_others=5)[0].weight == 3


@pytest.mark.parametrize("kind", [True, False])
def test_a_policy_that_rewrites_always_or_never_has_no_timing(kind: bool) -> None:
    found = summarize_timing([fork(n, rewrote=kind, value=0.2) for n in range(5)])
    assert found["timing"] == {"value": None, "ci95": (None, None)}
    assert found["value"]["value"] == pytest.approx(0.2)


def test_without_a_fork_there_are_no_numbers() -> None:
    found = summarize_timing([])
    assert found["num_forks"] == 0 and found["value"]["value"] is None
    assert found["by_fill"] == [] and found["by_kind"] == {}
    assert compare_timing([], GOOD)["timing_difference"]["value"] is None


def test_bins_hold_each_fork_once() -> None:
    found = summarize_timing([*GOOD, fork(fill=1.0, turns_left=40), fork(fill=0.0, turns_left=2)])
    for name in ("by_fill", "by_turns_left", "by_needs_rewrite"):
        assert sum(row["num_forks"] for row in found[name]) == len(GOOD) + 2
    assert [row["from"] for row in found["by_fill"]] == sorted(r["from"] for r in found["by_fill"])
    (full,) = [row for row in found["by_fill"] if row["from"] == 0.75]
    assert full["value"]["value"] > found["value"]["value"], "where little is left it pays"


WORSE = [fork(n % 10, rewrote=n % 3 == 0, value=f.value) for n, f in enumerate(GOOD)]


def test_two_policies_are_compared_on_the_same_tasks_and_over_seeds() -> None:
    found = compare_timing(WORSE, GOOD)["timing_difference"]
    assert found["value"] == pytest.approx(timing(GOOD) - timing(WORSE))
    assert found["ci95"][0] > 0
    same = compare_timing(GOOD, GOOD)["timing_difference"]
    assert same == {"value": 0.0, "ci95": (0.0, 0.0)}
    seeds = [GOOD, GOOD[::2], [f for f in GOOD if f.task_id != "t3"]]
    pooled = pool_seeds(seeds)
    assert pooled["num_seeds"] == 3
    assert pooled["timing"]["value"] == pytest.approx(sum(map(timing, seeds)) / 3)
    of_tasks = summarize_timing([f for seed in seeds for f in seed])["timing"]
    assert width(pooled["timing"]) > width(of_tasks), "seeds differ, too"
    pairs = pool_differences([(WORSE, seed) for seed in seeds])
    expected = sum(timing(seed) - timing(WORSE) for seed in seeds) / 3
    assert pairs["timing_difference"]["value"] == pytest.approx(expected)


def timing(forks: list[Fork]) -> float:
    value = summarize_timing(forks)["timing"]["value"]
    assert value is not None
    return float(value)


def width(estimate: dict[str, Any]) -> float:
    low, high = estimate["ci95"]
    return float(high - low)


@settings(max_examples=8)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(-4, 4)), max_size=12))
def test_a_value_added_everywhere_changes_no_timing(drawn: list[tuple[int, bool, int]]) -> None:
    forks = [fork(task, rewrote=rewrote, value=float(value)) for task, rewrote, value in drawn]
    moved = [fork(task, rewrote=rewrote, value=value + 7.0) for task, rewrote, value in drawn]
    before, after = summarize_timing(forks)["timing"], summarize_timing(moved)["timing"]
    assert after["value"] == (None if before["value"] is None else pytest.approx(before["value"]))
