"""The weight of cost follows its rule, and a drop is real only beyond the noise."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.cost_weight import BOUNDS, CostWeightController, paired_drop
from tests.rewards.episodes import make_episode


def controlled(*pass_rates: float, num_episodes: int = 400) -> CostWeightController:
    controller = CostWeightController(kind="controlled", weight=0.3)
    for rate in pass_rates:
        controller = controller.after_step(pass_rate=rate, num_episodes=num_episodes)
    return controller


def solved(*flags: bool) -> list:
    return [make_episode(task_id=f"t{n}", solved=flag) for n, flag in enumerate(flags)]


@given(st.lists(st.floats(0, 1), max_size=30))
def test_fixed_never_moves(rates: list[float]) -> None:
    controller = CostWeightController(kind="fixed", weight=0.5)
    for rate in rates:
        controller = controller.after_step(pass_rate=rate, num_episodes=64)
    assert controller.weight == 0.5


@pytest.mark.parametrize(
    ("num_steps", "num_episodes"), [(9, 400), (10, 199)], ids=["too few steps", "too few episodes"]
)
def test_nothing_moves_during_the_onset(num_steps: int, num_episodes: int) -> None:
    controller = controlled(*[0.5] * num_steps, num_episodes=num_episodes)
    assert controller.reference is None and controller.weight == 0.3


def test_the_rule_by_hand() -> None:
    onset = controlled(*[0.5] * 10)
    assert onset.reference == 0.5 and onset.weight == 0.3
    same = onset.after_step(pass_rate=0.5, num_episodes=400)
    assert same.weight == pytest.approx(0.3 * math.exp(0.5 * 0.02))
    worse = onset.after_step(pass_rate=0.2, num_episodes=400)  # mean of ten: 0.47
    assert worse.weight == pytest.approx(0.3 * math.exp(0.5 * (0.47 - 0.48)))


def test_a_rise_is_followed_slowly_and_gives_no_credit() -> None:
    risen = controlled(*[0.2] * 10, *[0.47] * 60)
    assert risen.reference == pytest.approx(0.47)
    assert risen.weight <= 0.3 * math.exp(60 * 0.5 * 0.02)
    for _ in range(10):
        risen, before = risen.after_step(pass_rate=0.42, num_episodes=400), risen
    assert risen.reference == pytest.approx(0.47), "a fall does not lower it"
    assert risen.weight < before.weight, "5 points are enough, far above where the run began"


def test_the_luck_of_a_few_steps_is_no_best() -> None:
    steady = controlled(*[0.5] * 10, *[0.5] * 50)
    lucky = steady.after_step(pass_rate=0.9, num_episodes=400)
    assert lucky.reference == pytest.approx(0.5 + 0.4 / 50)


@given(st.lists(st.floats(0, 1), min_size=11, max_size=80))
def test_the_weight_stays_within_its_bounds(rates: list[float]) -> None:
    assert BOUNDS[0] <= controlled(*rates).weight <= BOUNDS[1]


def test_a_drop_is_real_beyond_two_points_and_two_standard_errors() -> None:
    before = solved(*[True] * 50)
    small = paired_drop(before, solved(*[True] * 49, False))
    assert small.mean == pytest.approx(0.02) and not small.is_real
    large = paired_drop(before, solved(*[True] * 40, *[False] * 10))
    assert large.mean == pytest.approx(0.2) and large.is_real
    noisy = paired_drop(
        solved(*[True, False] * 25, *[True] * 2), solved(*[False, True] * 25, *[False] * 2)
    )
    assert noisy.mean > 0.02 and not noisy.is_real
    assert not paired_drop([], before).is_real
    assert not paired_drop(before, before).is_real
