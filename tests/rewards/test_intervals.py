"""Intervals: seeded, by task, open where little is solved, right about as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rewards.intervals import (
    bootstrap,
    group_by_task,
    paired_difference,
    pass_rate_estimate,
    share_of_the_way,
    sum_by_task,
    wilson_interval,
)
from tests.rewards.episodes import make_episode


def policy(solved, billed=100, samples=1):
    return [
        make_episode(task_id=f"t{task}", solved=ok, turns=((billed - 10, 10),))
        for task, ok in enumerate(solved)
        for _ in range(samples)
    ]


def estimate(episodes, seed=0):
    groups = group_by_task(episodes)
    sums = sum_by_task(groups, list(groups))
    return bootstrap(sums.pass_rate, num_tasks=len(groups), seed=seed)


def test_same_seed_same_interval():
    episodes = policy([True, False] * 20)
    assert estimate(episodes, seed=3) == estimate(episodes, seed=3)


def test_more_samples_of_the_same_tasks_do_not_narrow_the_interval():
    # tasks are resampled, not samples: ten copies of an episode are no more evidence than one
    solved = [True, False] * 20
    assert estimate(policy(solved, samples=10)).ci95 == estimate(policy(solved)).ci95


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 99))
@hypothesis_settings(max_examples=30)
def test_the_interval_holds_the_estimate(solved, seed):
    found = estimate(policy(solved), seed=seed)
    assert found.value == pytest.approx(sum(solved) / len(solved))
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_coverage_is_near_95_percent():
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        solved = generator.random(60) < 0.6
        low, high = estimate(policy(solved.tolist()), seed=seed).ci95
        hits += low <= 0.6 <= high
    assert 180 <= hits <= 198


@pytest.mark.parametrize(("num_tasks", "bound"), [(32, 0.1089), (400, 0.0092), (1, 0.975)])
@pytest.mark.parametrize("samples", [1, 4])
def test_all_or_none_solved_is_known_no_better_than_the_tasks_allow(num_tasks, bound, samples):
    for solved in (False, True):
        groups = group_by_task(policy([solved] * num_tasks, samples=samples))
        found = pass_rate_estimate(sum_by_task(groups, list(groups)), num_tasks=num_tasks, seed=0)
        low, high = found.ci95
        assert found.value == float(solved)
        assert (low, high) == pytest.approx((1 - bound, 1) if solved else (0, bound), abs=5e-5)


def test_an_interval_may_be_open_where_few_are_solved():
    groups = group_by_task(policy([True, False, False]))
    sums = sum_by_task(groups, list(groups))
    found = bootstrap(sums.tokens_per_solved, num_tasks=3, seed=0)
    assert found.value == pytest.approx(300)
    assert found.ci95[0] == pytest.approx(100)
    assert found.ci95[1] is None


def test_paired_difference_uses_shared_tasks_only():
    first = policy([True, False, True, True], billed=400)
    second = policy([True, True, True], billed=100)
    found = paired_difference(first, second)
    assert found.num_tasks == 3
    assert found.pass_rate_difference.value == pytest.approx(1 / 3)
    assert found.tokens_per_solved_ratio.value == pytest.approx(100 / 600)
    assert found.peak_context_ratio.value == pytest.approx(90 / 390)


def test_pairing_removes_what_tasks_have_in_common():
    # both solve exactly the same half of the tasks, one for half the tokens
    solved = [True, False] * 30
    found = paired_difference(policy(solved, billed=400), policy(solved, billed=200))
    assert found.pass_rate_difference.ci95 == (0, 0)
    assert found.tokens_per_solved_ratio.ci95 == pytest.approx((0.5, 0.5))
    assert found.peak_context_ratio.ci95 == pytest.approx((190 / 390, 190 / 390))


def test_nothing_in_common_is_undefined():
    first, second = policy([True]), [make_episode(task_id="other")]
    found = paired_difference(first, second)
    assert found.num_tasks == 0
    assert found.pass_rate_difference.value is None
    assert found.tokens_per_solved_ratio.ci95 == (None, None)


def test_share_of_the_way_to_gold():
    solved = [True] * 20
    start, end, goal = (policy(solved, billed=tokens) for tokens in (500, 200, 100))
    assert share_of_the_way(start, end, goal).value == pytest.approx(0.75)
    assert share_of_the_way(start, policy([False] * 20), goal).value is None


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 40, 0.0, 0.0876), (10, 100, 0.0552, 0.1744)]
)
def test_the_score_interval_is_that_of_wilson(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
