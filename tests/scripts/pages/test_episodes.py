import pytest

from tests.rewards.episodes import make_episode
from tightrope_cli.pages.episodes import ending


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "solved"),
        (
            {"second_runner": "other tests pass", "tampered": True},
            "passed, but the second runner disagrees",
        ),
        (
            {"recorded_calls": "sequence 3: f differs", "fail_to_pass_rate": 0.0},
            "passed, but recorded calls give something else",
        ),
        (
            {"recorded_calls": "not asked; the change adds import os", "tampered": True},
            "tampered with the tests",
        ),
    ],
    ids=["solved", "second runner", "recorded calls", "suspect"],
)
def test_how_an_episode_ended_in_words(said, words):
    made = make_episode()
    outcome = made.outcome.model_copy(update=said)
    assert ending(made.model_copy(update={"outcome": outcome})) == words
