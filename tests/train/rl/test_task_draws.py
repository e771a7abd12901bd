"""What steps play: passes, the curriculum's weights, and further tasks."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.solves import Solves
from tests.train.small_run import settings_in
from train.rl.task_draws import draw_further, draw_step, list_in_passes, weigh_task

TASKS = [f"t{number}" for number in range(30)]


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40), st.integers(0, 9))
def test_passes_are_cut_anywhere(size: int, start: int, num: int, seed: int) -> None:
    tasks = TASKS[:size]
    whole = list_in_passes(tasks, start=0, num=start + num, seed=seed)
    assert list_in_passes(tasks, start=start, num=num, seed=seed) == whole[start:]


@given(st.integers(1, 9), st.integers(1, 24), st.integers(0, 99))
def test_each_pass_holds_every_task_once(size: int, num: int, seed: int) -> None:
    order = list_in_passes(TASKS[:size], start=0, num=num, seed=seed)
    assert len(order) == num
    for start in range(0, num, size):
        part = order[start : start + size]
        assert len(set(part)) == len(part)


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_task_weighs_what_its_outcome_may_vary(solved: int, failed: int) -> None:
    weight = weigh_task(Solves(solved + failed, solved))
    assert 0 < weight < 0.25
    assert weight == weigh_task(Solves(solved + failed, failed))
    if solved < failed:
        assert weight < weigh_task(Solves(2 * failed, failed))


def test_the_curriculum_draws_towards_half_solved(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--grpo.curriculum=true", "--grpo.groups_per_step=4")
    rates = {"t0": 4, "t1": 8, "t2": 0}
    solves = {name: Solves(8, solved) for name, solved in rates.items()}
    drawn: Counter[str] = Counter()
    for step in range(400):
        tasks = draw_step(settings, TASKS, step=step, solves=solves)
        assert len(set(tasks)) == 4
        assert tasks == draw_step(settings, TASKS, step=step, solves=dict(reversed(solves.items())))
        drawn.update(tasks)
    assert drawn["t0"] > 1.2 * drawn["t5"] > 1.5 * max(drawn["t1"], drawn["t2"])
    assert min(drawn["t1"], drawn["t2"]) > 5


def test_a_set_smaller_than_a_step_comes_again(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--grpo.curriculum=true", "--grpo.groups_per_step=5")
    assert Counter(draw_step(settings, ["a", "b"], step=0, solves={})).most_common(1)[0][1] == 3


@pytest.mark.parametrize("curriculum", ["true", "false"])
def test_further_tasks_are_new_ones(curriculum: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, f"--grpo.curriculum={curriculum}")
    solves = {"t0": Solves(80, 40)}
    for num in (0, 3, 40):
        found = draw_further(settings, TASKS, step=2, num=num, played=TASKS[5:9], solves=solves)
        assert len(found) == len(set(found)) == min(num, 26)
        assert not set(found) & {*TASKS[5:9]}
