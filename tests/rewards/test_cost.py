"""Every token is metered (invariant 5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.cost import (
    PRESETS,
    CostWeights,
    billed_tokens,
    cost,
    num_compactions,
    num_evictions,
    num_segments,
    peak_context,
    sampled_tokens,
)
from tests.rewards.episodes import BAD_CALL, episodes, make_episode, rewrites

TURNS = ((100, 20), (150, 30), (80, 10))


def test_tokens_preset_is_billed_tokens_over_all_segments():
    episode = make_episode(turns=TURNS, cuts=frozenset({2}))
    assert billed_tokens(episode) == 100 + 20 + 150 + 30 + 80 + 10
    assert cost(episode, weights=PRESETS["tokens"]) == billed_tokens(episode)
    assert sampled_tokens(episode) == 60
    assert peak_context(episode) == 150
    assert num_segments(episode) == 2


def test_price_preset_by_hand():
    episode = make_episode(turns=((100, 20),), num_cached=40)
    assert cost(episode, weights=PRESETS["price"]) == pytest.approx(60 + 0.1 * 40 + 5 * 20)


@given(episodes(), st.integers(1, 900), st.integers(1, 300), st.sampled_from(list(PRESETS)))
def test_one_more_turn_always_costs_more(episode, prompt, sampled, preset):
    # a failed call, a compaction and a summary are turns like any other
    extra = make_episode(turns=((prompt, sampled),), calls=(BAD_CALL,)).turns[0]
    free = episode.model_copy(update={"reference_cost": 0.0})
    longer = free.model_copy(update={"turns": (*episode.turns, extra)})
    weights = PRESETS[preset]
    assert cost(longer, weights=weights) > cost(free, weights=weights)
    assert billed_tokens(longer) == billed_tokens(free) + prompt + sampled


@given(episodes(), st.sampled_from(["new", "cached", "sampled"]))
def test_each_kind_of_token_is_on_the_meter(episode, kind):
    free = episode.model_copy(update={"reference_cost": 0.0})
    weights = CostWeights(**{"new": 0.0, "cached": 0.0, "sampled": 0.0, kind: 1.0})
    counts = {
        "new": sum(turn.prompt_end - turn.num_cached for turn in episode.turns),
        "cached": sum(turn.num_cached for turn in episode.turns),
        "sampled": sampled_tokens(episode),
    }
    assert cost(free, weights=weights) == counts[kind]
    assert sum(counts.values()) == billed_tokens(episode)


@given(episodes())
def test_the_reference_cost_is_a_floor(episode):
    dear = episode.model_copy(update={"reference_cost": 1e9})
    assert cost(dear, weights=PRESETS["tokens"]) == 1e9


def test_rewrites_are_counted():
    episode = make_episode(events=rewrites(evictions=2, compactions=1))
    assert (num_evictions(episode), num_compactions(episode)) == (2, 1)
