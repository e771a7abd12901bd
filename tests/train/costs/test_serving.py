"""Tasks per hour answer to what they are made of: memory, bandwidth, operations, cards, a cache."""

from dataclasses import replace

import pytest

from envs.errors import UserError
from train.costs.cards import BANDWIDTH_SHARE, FLOPS_SHARE, Card, find_card
from train.costs.flops import count_flops
from train.costs.serving import FILLED, MOST_ROWS, count_sessions, estimate_serving
from train.costs.session import Turn, list_turns
from train.costs.shape import Layer, ModelShape, Parameters

LAYER = Layer(values_per_token=2 * 2 * 128, attended=16 * 256)
SHAPE = ModelShape("3B", (LAYER,) * 36, 2.0, Parameters(3 * 10**9, 2_700_000_000, 300_000_000))
TURNS = list_turns(30, first=3000, result=1200, sampled=300)
CARD = Card("a card", flops=1e15, bandwidth=3e12, memory=80e9)


def serve(shape=SHAPE, turns=TURNS, card=CARD, num_cards=1, caches=True):
    return estimate_serving(shape, turns, card=card, num_cards=num_cards, caches=caches)


def test_one_short_session_by_hand() -> None:
    turns, card = [Turn(1000, 0, 100)], replace(CARD, memory=6.8e9)
    kept = 2 * 36 * 512
    assert count_sessions(SHAPE, 1100, card=card, num_cards=1) == (0.9 * 6.8e9 - 6e9) // (
        kept * 1100
    )
    found = serve(turns=turns, card=card)
    assert found.sessions == 2
    filled = FILLED * 2
    token_s = (6e9 + filled * kept * 1050) / (BANDWIDTH_SHARE * 3e12)
    assert found.sampling_s == pytest.approx(100 * token_s / filled)
    reading = count_flops(SHAPE, num_new=1000, num_scored=1).total
    assert found.reading_s == pytest.approx(reading / (FLOPS_SHARE * 1e15))
    assert found.tasks_per_hour == pytest.approx(3600 / (found.reading_s + found.sampling_s))


def test_a_cache_saves_reading_and_nothing_else() -> None:
    without, with_cache = serve(caches=False), serve()
    assert with_cache.reading_s < without.reading_s / 10
    assert with_cache.sampling_s == without.sampling_s


def test_what_is_short_decides() -> None:
    base = serve()
    assert serve(card=replace(CARD, flops=2e15)).reading_s == pytest.approx(base.reading_s / 2)
    faster = serve(card=replace(CARD, bandwidth=6e12))
    assert faster.sampling_s == pytest.approx(base.sampling_s / 2)
    assert serve(card=replace(CARD, memory=160e9)).sessions > 2 * base.sessions
    small = [Turn(10, 0, 10)]
    many = serve(turns=small, card=replace(CARD, flops=1e12))
    assert many.sessions == MOST_ROWS
    one = count_flops(SHAPE, num_new=1, num_before=10, num_scored=1).total
    computed = 10 * one / (FLOPS_SHARE * 1e12)
    assert many.sampling_s == pytest.approx(computed), "operations, not memory"
    assert serve(num_cards=4).tasks_per_hour > 4 * base.tasks_per_hour, "weights are held once"


def test_what_does_not_fit_says_how_many_cards_it_takes() -> None:
    shape = replace(SHAPE, parameters=Parameters(70 * 10**9, 68 * 10**9, 10**9))
    with pytest.raises(UserError, match=r"141\.7 GB on 1 x a card of 80.*--cards 2"):
        serve(shape)
    assert serve(shape, num_cards=2).sessions == 2


def test_cards_are_found_by_name() -> None:
    assert find_card("h100").memory == 80e9
    with pytest.raises(UserError, match="did you mean 'H200'"):
        find_card("H20")
