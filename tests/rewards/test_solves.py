"""Counts of solved episodes and the pass@k that follows."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.records import StopReason
from rewards.solves import Solves, count_solves, pass_at_k
from tests.rewards.episodes import make_episode


def test_scorable_episodes_are_counted_by_task():
    episodes = [
        make_episode(task_id="a", solved=True),
        make_episode(task_id="a", solved=False),
        make_episode(task_id="a", stop_reason=StopReason.ENVIRONMENT_ERROR),
        make_episode(task_id="a", unscorable="no sandbox"),
        make_episode(task_id="b", solved=True, tampered=True),
    ]
    counts = count_solves(episodes)
    assert counts == {"a": Solves(2, 1), "b": Solves(1, 0)}
    assert count_solves(episodes[:1], before=counts)["a"] == Solves(3, 2)
    assert counts["a"] == Solves(2, 1), "what was given stays as it was"


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_solved_one(solved, data):
    k = data.draw(st.integers(1, len(solved)))
    draws = list(combinations(solved, k))
    share = sum(map(any, draws)) / len(draws)
    assert pass_at_k(Solves(len(solved), sum(solved)), k) == pytest.approx(share)


def test_pass_at_k_needs_k_samples():
    with pytest.raises(ValueError, match="pass@8 of 4"):
        pass_at_k(Solves(4, 1), 8)
