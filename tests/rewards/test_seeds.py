"""Intervals over training seeds: the exact small case, and how often they are right."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.intervals import Estimate, bootstrap, paired_difference
from rewards.metrics import compare_seeds, summarize, summarize_seeds
from rewards.seeds import (
    over_seeds,
    paired_over_seeds,
    share_of_the_way_over_seeds,
    t_interval,
    t_quantile,
)
from tests.rewards.test_intervals import policy

NARROW = Estimate(value=0.207, ci95=(0.186, 0.229))
TABLE = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706, 9: 2.2622, 10: 2.2281, 30: 2.0423}


@pytest.mark.parametrize("degrees", TABLE)
def test_quantiles_are_those_of_the_printed_tables(degrees):
    assert t_quantile(degrees) == pytest.approx(TABLE[degrees], abs=5e-5)


def test_three_seeds_of_the_demo():
    found = t_interval([0.161, 0.182, 0.278])
    assert found.value == pytest.approx(0.207)
    assert found.ci95 == pytest.approx((0.052, 0.362), abs=5e-4)
    with_tasks = over_seeds([0.161, 0.182, 0.278], NARROW)
    assert with_tasks.ci95 == pytest.approx((0.0506, 0.3635), abs=5e-4)


def test_ratios_are_compared_by_factors():
    low, high = over_seeds([0.5, 2.0], Estimate(value=1.0, ci95=(1.0, 1.0)), is_ratio=True).ci95
    assert low * high == pytest.approx(1.0)
    assert math.log(high) == pytest.approx(12.7062 * math.log(2))


def test_one_seed_has_the_interval_over_tasks_and_says_so():
    first, second = policy([True, False] * 20), policy([True, True, False, True] * 10)
    found = paired_over_seeds([(first, second)])
    assert found == paired_difference(first, second)
    assert found.num_seeds == 1
    assert t_interval([0.3]) == Estimate(value=0.3, ci95=(None, None))
    assert t_interval([]) == Estimate(value=None, ci95=(None, None))


def test_seeds_that_agree_are_no_surer_than_their_tasks():
    # three copies of one policy: nothing varies over seeds, all doubt is about the tasks
    pair = policy([True, False] * 20), policy([True, True, False, True] * 10)
    one, three = paired_difference(*pair), paired_over_seeds([pair] * 3)
    assert three.num_seeds == 3 and three.num_tasks == 40
    assert three.pass_rate_difference.ci95 == pytest.approx(one.pass_rate_difference.ci95)
    assert three.tokens_per_solved_ratio.ci95 == pytest.approx(one.tokens_per_solved_ratio.ci95)
    assert three.peak_context_ratio.ci95 == pytest.approx(one.peak_context_ratio.ci95)


def test_a_seed_that_solved_nothing_leaves_the_ratio_undefined():
    start = policy([True] * 20)
    pairs = [(start, policy([True] * 20, billed=50)), (start, policy([False] * 20))]
    found = paired_over_seeds(pairs)
    assert found.tokens_per_solved_ratio == Estimate(value=None, ci95=(None, None))
    assert found.pass_rate_difference.value == pytest.approx(-0.5)


def test_a_bound_that_lies_at_nothing_solved_stays_open():
    open_above = Estimate(value=2.0, ci95=(1.5, None))
    low, high = over_seeds([1.9, 2.1], open_above, is_ratio=True).ci95
    assert low is not None and low < 1.5 and high is None
    low, _ = over_seeds([1.9, 2.1], Estimate(value=2.0, ci95=(0.0, 3.0)), is_ratio=True).ci95
    assert low == 0.0


def test_the_share_of_the_way_is_one_value_per_seed():
    goal, start = policy([True] * 20, billed=100), policy([True] * 20, billed=500)
    pairs = [(start, policy([True] * 20, billed=billed)) for billed in (200, 300)]
    found = share_of_the_way_over_seeds(pairs, goal)
    assert found.value == pytest.approx(0.625)
    assert found.ci95[1] - found.value == pytest.approx(12.7062 * 0.125)


def test_rows_state_how_many_seeds_they_are_of():
    of_seeds = [policy([True, False] * 20), policy([True, True, False, True] * 10)]
    row = summarize_seeds(of_seeds, name="grpo", sampling="temperature 1")
    assert (row["num_seeds"], row["num_tasks"], row["num_samples"]) == (2, 40, 80)
    assert row["pass_rate"] == pytest.approx(0.625)
    pooled = summarize(of_seeds[0] + of_seeds[1], name="grpo", sampling="temperature 1")
    width = row["pass_rate_ci95"][1] - row["pass_rate_ci95"][0]
    assert width > 5 * (pooled["pass_rate_ci95"][1] - pooled["pass_rate_ci95"][0])
    found = compare_seeds([(each, each) for each in of_seeds], first_name="a", second_name="b")
    assert found["num_seeds"] == 2 and found["pass_rate_difference"] == 0


def test_bounds_are_what_a_pass_rate_and_a_difference_can_be():
    few, many = policy([True] + [False] * 39), policy([True] * 30 + [False] * 10)
    row = summarize_seeds([few, many], name="grpo", sampling="greedy")
    assert row["pass_rate_ci95"] == [0.0, 1.0]
    found = paired_over_seeds([(few, many), (many, few)])
    assert found.pass_rate_difference.ci95 == (-1.0, 1.0)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.floats(0.05, 0.95))
def test_the_order_of_seeds_does_not_matter_and_the_interval_holds_the_mean(values, pooled):
    over_tasks = Estimate(value=pooled, ci95=(pooled - 0.01, pooled + 0.01))
    for is_ratio in (False, True):
        found = over_seeds(values, over_tasks, is_ratio=is_ratio)
        again = over_seeds(values[::-1], over_tasks, is_ratio=is_ratio)
        assert found.value == pytest.approx(again.value)
        assert found.ci95[0] < found.value < found.ci95[1]


@pytest.mark.parametrize(
    ("spread", "least", "most"),
    [(0.0, 0.93, 1.0), (0.06, 0.93, 1.0), (0.3, 0.925, 0.975)],
    ids=["seeds agree", "seeds differ as tasks do", "seeds differ"],
)
def test_coverage_is_95_percent_where_the_pooled_interval_falls_short(spread, least, most):
    """3 seeds x 60 tasks; a gain of 0.2 that varies over seeds (by a known amount) and tasks."""
    generator = np.random.default_rng(0)
    num = 600
    hits = dict.fromkeys(["over seeds", "tasks of all seeds pooled", "bootstrap of seeds"], 0)
    for seed in range(num):
        of_seed = 0.2 + spread * generator.standard_normal((3, 1))
        gains = of_seed + 0.25 * generator.standard_normal((1, 60))  # of a task, for every seed
        gains = gains + 0.3 * generator.standard_normal((3, 60))  # of a task for one seed
        means, tasks = gains.mean(axis=1), gains.mean(axis=0)
        pooled = bootstrap(
            lambda w, t=tasks: w @ t / 60, num_tasks=60, seed=seed, num_resamples=500
        )
        found = {
            "over seeds": over_seeds(means.tolist(), pooled),
            "tasks of all seeds pooled": pooled,
            "bootstrap of seeds": bootstrap(
                lambda w, m=means: w @ m / 3, num_tasks=3, seed=seed, num_resamples=500
            ),
        }
        for name, estimate in found.items():
            hits[name] += estimate.ci95[0] <= 0.2 <= estimate.ci95[1]
    assert least * num <= hits["over seeds"] <= most * num, hits
    if spread:
        assert hits["tasks of all seeds pooled"] < 0.9 * num, hits
        assert hits["bootstrap of seeds"] < 0.85 * num, hits
