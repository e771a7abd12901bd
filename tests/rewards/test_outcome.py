"""What counts as solved, and the graded outcome."""

import pytest

from envs.records import StopReason
from rewards.outcome import is_scorable, is_solved, outcome
from tests.rewards.episodes import make_episode


@pytest.mark.parametrize(
    ("changes", "solved", "graded"),
    [
        pytest.param({}, True, 1.0, id="all-tests-pass"),
        pytest.param({"f2p": 0.5}, False, 0.25, id="half-fixed"),
        pytest.param({"p2p": 0.8}, False, 0.4, id="fixed-but-broke-others"),
        pytest.param({"f2p": 0.0}, False, 0.0, id="nothing-done-pays-nothing"),
        pytest.param({"tampered": True}, False, 0.0, id="tampered"),
        pytest.param({"stop_reason": StopReason.TURN_LIMIT}, False, 0.0, id="not-submitted"),
        pytest.param({"unscorable": "sandbox died"}, False, 0.0, id="unscorable"),
    ],
)
def test_outcome(changes, solved, graded):
    episode = make_episode(**changes)
    assert is_solved(episode) is solved
    assert outcome(episode, "binary") == float(solved)
    assert outcome(episode, "graded") == pytest.approx(graded)


@pytest.mark.parametrize("reason", list(StopReason), ids=lambda reason: reason.value)
def test_only_infrastructure_failures_are_unscorable(reason):
    infrastructure = reason in {StopReason.TIMEOUT, StopReason.ENVIRONMENT_ERROR}
    assert is_scorable(make_episode(stop_reason=reason)) is not infrastructure
    assert not is_scorable(make_episode(stop_reason=reason, unscorable="no sandbox"))


def test_an_episode_that_was_never_graded_is_a_bug():
    episode = make_episode().model_copy(update={"outcome": None})
    with pytest.raises(ValueError, match="never graded"):
        outcome(episode)


def test_an_episode_that_was_not_submitted_needs_no_grading():
    update = {"outcome": None, "stop_reason": StopReason.TOKEN_LIMIT}
    assert outcome(make_episode().model_copy(update=update), "graded") == 0.0
