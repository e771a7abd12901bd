"""The laws of the advantages, and the default formula worked out by hand."""

import itertools
import math

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import UserError
from envs.records import Episode, Score, StopReason
from rewards.advantages import mask_overlong, score_group
from rewards.outcome import is_solved
from tests.envs.context import any_episodes
from tests.laws import CASES
from tests.rewards.episodes import BAD_CALL, groups, make_episode
from tests.train.config.own_functions import by_rank, too_few

METHODS = ["default", "additive", "multiplicative", "outcome_only", "zscore"]
settings = {
    "method": st.sampled_from(METHODS),
    "outcome": st.sampled_from(["binary", "graded"]),
    "cost": st.sampled_from(["tokens", "price"]),
    "cost_weight": st.floats(0, 1),
    "process_weight": st.sampled_from([0.0, 0.05]),
}
any_settings = st.fixed_dictionaries(settings)


def with_costs(*costs, solved=None):
    flags = solved or [True] * len(costs)
    return [
        make_episode(turns=((cost - 10, 10),), solved=ok)
        for cost, ok in zip(costs, flags, strict=True)
    ]


def advantages(episodes, **kwargs):
    return [score.advantage for score in score_group(episodes, **kwargs)]


def test_default_by_hand():
    scores = score_group(with_costs(100, 400, 200, 200, solved=[True, True, True, False]))
    # rho = 3/4; doublings from the geometric mean 200 of the solved: -1, 1, 0
    assert [score.components["A_out"] for score in scores] == [0.25, 0.25, 0.25, -0.75]
    assert [score.components["A_cost"] for score in scores] == pytest.approx([0.75, -0.75, 0, 0])
    # the dearest solver would get 0.25 - 0.375 and keeps a quarter of 0.25; the others pay for it
    expected = [0.625 - 0.09375, 0.0625, 0.25 - 0.09375, -0.75]
    assert [score.advantage for score in scores] == pytest.approx(expected)
    assert [score.components["clamped"] for score in scores] == [0, 1, 0, 0]


@given(groups(), any_settings)
def test_masked_episodes_change_nothing_for_the_others(group, given):
    stops = (StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT)
    kept = score_group(group, **given)
    masked = mask_overlong(group, kept)
    for episode, before, after in zip(group, kept, masked, strict=True):
        if episode.stop_reason in stops:
            assert after == before.model_copy(update={"advantage": 0.0, "masked": True})
        else:
            assert after == before


def test_one_doubling_is_one_unit_and_more_is_cut():
    scores = score_group(with_costs(100, 200))
    assert [score.components["A_cost"] for score in scores] == pytest.approx([0.5, -0.5])
    scores = score_group(with_costs(100, 100_000))
    assert [score.components["A_cost"] for score in scores] == pytest.approx([1.0, -1.0])


def test_a_function_of_the_users_own_gets_the_scorable_episodes():
    group = with_costs(100, 400, 200, 800, solved=[True, True, False, True])
    group[3] = make_episode(unscorable="oom")
    scores = score_group(group, method=by_rank, cost_weight=0.5)
    assert [score.advantage for score in scores] == [0.5, 0.0, -0.5, 0.0]
    with pytest.raises(UserError, match="a finite number per episode"):
        score_group(group, method=too_few)


def test_zscore_by_hand():
    # two solvers are one standard deviation from their mean, however far apart they are
    expected = 1 / (1 + math.exp(-1)) - 0.5
    for dear in (400, 4000):
        scores = score_group(with_costs(100, dear), method="zscore")
        found = [score.components["A_cost"] for score in scores]
        assert found == pytest.approx([expected, -expected])
    # but costs that are nearly equal stay near zero
    assert abs(advantages(with_costs(1000, 1001), method="zscore")[0]) < 0.01


@given(groups(), any_settings)
def test_advantages_are_finite_and_bounded(group, kwargs):
    values = advantages(group, **kwargs)
    assert all(map(math.isfinite, values))
    if kwargs["method"] in {"default", "zscore"}:
        assert all(abs(value) <= 1 + 2 * kwargs["cost_weight"] for value in values)
    if kwargs["method"] == "additive":
        assert all(abs(value) <= math.sqrt(len(group)) for value in values)


@given(groups(), any_settings)
def test_advantages_and_their_channels_sum_to_zero(group, kwargs):
    scores = score_group(group, **kwargs)
    assert sum(score.advantage for score in scores) == pytest.approx(0, abs=1e-9)
    for channel in ("A_out", "A_cost", "A_process"):
        assert sum(score.components[channel] for score in scores) == pytest.approx(0, abs=1e-9)


def longer(episode, *, extra, is_sampled):
    """Add tokens to the first turn: read there, or sampled there."""
    turn = episode.turns[0]
    update = {"sample_end": turn.sample_end + extra}
    update |= {} if is_sampled else {"prompt_end": turn.prompt_end + extra}
    turns = (turn.model_copy(update=update), *episode.turns[1:])
    return episode.model_copy(update={"turns": turns})


def with_a_turn_more(episode, *, extra):
    turn = episode.turns[-1]
    update = {"prompt_end": turn.sample_end, "sample_end": turn.sample_end + extra}
    return episode.model_copy(update={"turns": (*episode.turns, turn.model_copy(update=update))})


@given(groups(), any_settings, st.data(), st.integers(1, 5000))
def test_adding_tokens_never_raises_an_advantage(group, kwargs, data, extra):
    """Read, sampled, or in a further turn; of a solver or a failure; under every form."""
    index = data.draw(st.integers(0, len(group) - 1))
    before = score_group(group, **kwargs)[index]
    for more in (
        longer(group[index], extra=extra, is_sampled=False),
        longer(group[index], extra=extra, is_sampled=True),
        with_a_turn_more(group[index], extra=extra),
    ):
        after = score_group([*group[:index], more, *group[index + 1 :]], **kwargs)[index]
        assert after.advantage <= before.advantage + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_that_goes_on_for_600_tokens_is_paid_like_one_of_60(method):
    short = make_episode(turns=((100, 60),), solved=False)
    long = make_episode(turns=((100, 600),), solved=False)
    found = advantages([make_episode(), make_episode(), short, long], method=method)
    assert found[3] <= found[2]
    if method != "additive":  # it pays a cheap failure more than a dear solver: that is its point
        assert found[3] == found[2] < 0


@given(groups(), any_settings)
def test_saved_episodes_give_the_same_scores_byte_for_byte(group, kwargs):
    saved = [Episode.model_validate_json(episode.model_dump_json()) for episode in group]
    before, after = (
        [score.model_dump_json() for score in score_group(each, **kwargs)]
        for each in (group, saved)
    )
    assert after == before
    assert [Score.model_validate_json(text).model_dump_json() for text in before] == before


@given(groups(), any_settings, st.randoms())
def test_the_order_of_the_episodes_does_not_matter(group, kwargs, random):
    order = list(range(len(group)))
    random.shuffle(order)
    values = advantages(group, **kwargs)
    assert advantages([group[i] for i in order], **kwargs) == [values[i] for i in order]


def recut(episode):
    """Give each turn a segment of its own."""
    turns = tuple(turn.model_copy(update={"segment": i}) for i, turn in enumerate(episode.turns))
    ids = tuple((0,) * turn.sample_end for turn in turns)
    return episode.model_copy(update={"turns": turns, "segment_ids": ids})


@given(groups(), any_settings, st.data())
def test_cutting_an_episode_into_segments_changes_no_score(group, kwargs, data):
    """Invariant 4: groups count episodes, never rows."""
    index = data.draw(st.integers(0, len(group) - 1))
    cut = [*group[:index], recut(group[index]), *group[index + 1 :]]
    assert score_group(cut, **kwargs) == score_group(group, **kwargs)


@given(groups(scorable=True), st.floats(0.01, 1))
def test_of_two_solvers_the_dearer_never_gets_more(group, weight):
    solved = [score for score in score_group(group, cost_weight=weight) if score.solved]
    for cheap, dear in itertools.permutations(solved, 2):
        if cheap.cost < dear.cost:
            assert cheap.advantage >= dear.advantage - 1e-12


@given(any_episodes.groups(), any_settings, st.data())
@hypothesis.settings(max_examples=CASES)
def test_the_laws_hold_for_what_was_really_played(group, kwargs, data):
    """Under any strategy, with calls together and malformed, cut samples and rewrites."""
    values = advantages(group, **kwargs)
    assert sum(values) == pytest.approx(0, abs=1e-9)
    order = data.draw(st.permutations(range(len(group))))
    assert advantages([group[i] for i in order], **kwargs) == [values[i] for i in order]
    index = data.draw(st.integers(0, len(group) - 1))
    for changed, is_dearer in (
        (recut(group[index]), False),
        (with_a_turn_more(group[index], extra=data.draw(st.integers(1, 999))), True),
    ):
        after = advantages([*group[:index], changed, *group[index + 1 :]], **kwargs)
        assert after[index] <= values[index] + 1e-9 if is_dearer else after == values
    if kwargs["method"] != "additive" and not any(map(is_solved, group)):
        assert not any(values)


@given(groups(scorable=True), st.floats(0, 1), st.sampled_from(["default", "zscore"]))
def test_a_solver_never_falls_below_a_failure(group, weight, method):
    scores = score_group(group, method=method, cost_weight=weight)
    mixed = [score for score in scores if score.components["A_out"] > 0 and score.solved]
    for score in mixed:
        assert score.advantage >= 0.25 * score.components["A_out"] > 0


@given(
    st.lists(st.integers(11, 5000), min_size=2, max_size=8),
    # the additive ablation charges failures for their cost: that is what it is there to show
    st.fixed_dictionaries(
        settings | {"method": st.sampled_from(sorted({*METHODS} - {"additive"}))}
    ),
    st.floats(0, 0.99),
)
def test_equal_outcomes_and_none_solved_give_exact_zeros(costs, kwargs, f2p):
    group = [make_episode(turns=((cost - 10, 10),), f2p=f2p) for cost in costs]
    assert advantages(group, **kwargs) == [0.0] * len(costs)


@pytest.mark.parametrize("size", [3, 6, 7])
def test_equal_graded_outcomes_leave_no_rounding_behind(size):
    for percent in range(100):
        group = [make_episode(f2p=percent / 100)] * size
        assert advantages(group, outcome="graded") == [0.0] * size


def test_additive_charges_failures_too():
    assert advantages(with_costs(100, 200, solved=[False, False]), method="additive")[0] > 0


@pytest.mark.parametrize("method", ["default", "zscore", "multiplicative", "additive"])
def test_groups_where_all_solve_keep_the_cost_signal(method):
    cheap, middle, dear = advantages(with_costs(100, 200, 400), method=method)
    assert cheap > middle > dear
    assert cheap > 0 > dear
    assert advantages(with_costs(100, 200, 400), method="outcome_only") == [0.0] * 3


@given(st.lists(st.integers(11, 5000), min_size=2, max_size=2, unique=True), st.integers(0, 6))
def test_pressure_on_cost_is_muted_where_little_is_solved(costs, num_failures):
    failures = [make_episode(solved=False)] * num_failures
    scores = score_group([*with_costs(*costs), *failures])
    alone = score_group(with_costs(*costs))
    rho = 2 / (2 + num_failures)
    for score, reference in zip(scores[:2], alone, strict=True):
        expected = rho * reference.components["A_cost"]
        assert score.components["A_cost"] == pytest.approx(expected)


@given(groups(), any_settings, st.sampled_from(["environment_error", "timeout", "grader"]))
def test_unscorable_episodes_are_masked_and_leave_the_baseline(group, kwargs, cause):
    """Invariant 7: an infrastructure failure is not a reward."""
    if cause == "grader":
        broken = make_episode(unscorable="sandbox died", turns=((5000, 900),))
    else:
        broken = make_episode(stop_reason=StopReason(cause), turns=((5000, 900),))
    scores = score_group([broken, *group], **kwargs)
    assert (scores[0].advantage, scores[0].scorable, scores[0].solved) == (0.0, False, False)
    assert scores[1:] == score_group(group, **kwargs)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_than_two_scorable_episodes_give_zeros(method):
    broken = make_episode(unscorable="sandbox died")
    assert advantages([make_episode(), broken], method=method) == [0.0, 0.0]
    assert advantages([make_episode()], method=method) == [0.0]
    assert advantages([], method=method) == []


def test_failures_that_are_not_of_the_infrastructure_stay_in_the_baseline():
    group = [make_episode(), make_episode(stop_reason=StopReason.CONTEXT_OVERFLOW)]
    assert advantages(group) == [0.5, -0.5]


def test_who_lifts_the_dear_solvers():
    group = with_costs(100, 100, 400, 400, 50, solved=[True, True, True, True, False])
    scores = score_group(group, cost_weight=1)
    # A_out 0.2, floor 0.05; A_cost +-0.8: the cheap ones pay 0.65 each to lift the dear ones
    assert [score.components["clamped"] for score in scores] == [0, 0, 1, 1, 0]
    expected = [0.35, 0.35, 0.05, 0.05, -0.8]
    assert [score.advantage for score in scores] == pytest.approx(expected)


def wasteful(num_malformed, *, solved=True):
    return make_episode(calls=(BAD_CALL,) * num_malformed, solved=solved)


def test_wasteful_calls_cost_solvers_alone_and_so_much_at_most():
    group = [wasteful(0), wasteful(1), wasteful(9, solved=False)]
    scores = score_group(group, process_weight=0.05)
    # rho = 2/3, and 0.05 apart
    assert [score.components["A_process"] for score in scores] == pytest.approx(
        [1 / 60, -1 / 60, 0]
    )
    most = score_group([wasteful(0), wasteful(50)], process_weight=0.05)
    assert [score.advantage for score in most] == pytest.approx([0.1, -0.1])
    assert score_group(group) == score_group(group, process_weight=0.0)
    assert not any(score.components["A_process"] for score in score_group(group))
