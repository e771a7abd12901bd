"""Tokens of a session grow with the square of its turns; money follows from the user's prices."""

import pytest

from envs.errors import UserError
from rewards.cost import billed_tokens, sampled_tokens
from tests.envs.world import play
from train.costs.session import Prices, Turn, list_played, list_turns, read_prices


def test_thirty_turns_send_what_went_before_again() -> None:
    turns = list_turns(30, first=3000, result=1200, sampled=300)
    assert turns[:2] == [Turn(3000, 0, 300), Turn(4500, 3300, 300)]
    assert turns[-1] == Turn(46_500, 45_300, 300)
    assert sum(turn.prompt + turn.sampled for turn in turns) == 30 * 3300 + 1500 * 29 * 30 // 2
    assert all(turn.new == 1200 for turn in turns[1:])


def test_a_cache_is_paid_by_what_is_put_in_and_taken_out() -> None:
    turns = [Turn(100, 0, 10), Turn(200, 110, 10)]
    prices = Prices(new=3, cached=0.5, sampled=15, written=4)
    assert prices.charge(turns, caches=False) == pytest.approx((3 * 300 + 15 * 20) / 1e6)
    paid = 4 * (100 + 90) + 0.5 * 110 + 15 * 20
    assert prices.charge(turns, caches=True) == pytest.approx(paid / 1e6)
    assert read_prices("3,0.5,15,4") == prices
    assert read_prices("3,0.5,15").written == 3


@pytest.mark.parametrize(
    "text", ["", "3", "3,1", "a,b,c", "3,1,-1", "1,1,inf", "nan,1,1", "1,2,3,4,5"]
)
def test_other_prices_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="three or four numbers"):
        read_prices(text)


def test_turns_of_an_episode_are_those_that_were_metered() -> None:
    episode = play("careful")
    turns = list_played(episode)
    assert sum(turn.prompt + turn.sampled for turn in turns) == billed_tokens(episode)
    assert sum(turn.sampled for turn in turns) == sampled_tokens(episode)
    assert turns[0].cached == 0 and all(0 < turn.cached < turn.prompt for turn in turns[1:])
