"""Records that an older version wrote still load."""

import json

from envs.records import Episode
from tests.rewards.episodes import make_episode


def test_an_episode_that_was_forced_needs_a_rewrite() -> None:
    episode = make_episode().model_copy(update={"needs_rewrite": True})
    old = json.loads(episode.model_dump_json())
    old["forced"] = old.pop("needs_rewrite")
    assert Episode.model_validate(old) == episode
