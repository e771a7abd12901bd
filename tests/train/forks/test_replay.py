"""Whatever a policy did, its episode is taken up again exactly where it is left."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.context.strategies import draw_thresholds
from envs.environment import Environment, EpisodeMetadata, Limits
from envs.errors import UserError
from envs.policies import call
from envs.records import Episode, Sampled, TestReport
from tests.envs.context.any_episodes import LONG, said, sample_of
from tests.envs.world import new_environment
from tests.laws import CASES
from train.forks.replay import has_rewritten, replay, split_turns

METADATA = EpisodeMetadata("g", 0, 0, "any", 0, 0.0, False)


def report(files: dict[str, str], selector: str) -> TestReport:
    """Say something that depends on the files, and is longer than a small window takes."""
    changed = sum(map(len, files.values())) % 97
    failures = tuple((f"t{n}", f"test {n} {selector} got {changed}") for n in range(changed % 30))
    return TestReport(num_passed=changed, failures=failures)


def fresh(episode: Episode, limits: Limits) -> Environment:
    return new_environment(
        limits=limits,
        strategy=episode.strategy,
        thresholds=episode.thresholds,
        files=LONG,
        run_visible=report,
    )


def go_on(environment: Environment, episode: Episode, *, start: int) -> Episode:
    """Sample what the episode sampled from a turn on, and return the record."""
    for sampled, *_ in split_turns(episode)[start:]:
        assert isinstance(sampled, Sampled)
        sample = sample_of("", cut=True).model_copy(
            update={
                "token_ids": sampled.token_ids,
                "sampling_logps": sampled.sampling_logps,
                "finish": sampled.finish,
            }
        )
        environment.step(sample)
    return environment.record(METADATA, outcome=None)


@st.composite
def recorded(draw: st.DrawFn) -> tuple[Episode, Limits]:
    limits = Limits(draw(st.integers(190, 700)), 14, 48, draw(st.sampled_from([60, 160])), 2)
    strategy = draw(st.sampled_from(["learned", "learned", "learned_net", "hybrid"]))
    thresholds = draw_thresholds(
        strategy,
        fill=(0.3, 1.0),
        keep_last=(1, 4),
        evict_batch=draw(st.integers(1, 4)),
        rng=draw(st.randoms(use_true_random=False)),
    )
    environment = new_environment(
        limits=limits, strategy=strategy, thresholds=thresholds, files=LONG, run_visible=report
    )
    while environment.stop_reason is None:
        words = draw(said)
        if words and isinstance(words, list) and words[0].name == "evict_all":
            live = [each.id for each in environment.view().observations]
            words = [call("evict", observation_ids=live), *words[1:]]
        environment.step(sample_of(words, cut=draw(st.booleans())))
    episode = environment.record(METADATA, outcome=None)
    return Episode.model_validate_json(episode.model_dump_json()), limits


@given(recorded(), st.data())
@settings(max_examples=2 * CASES)
def test_an_episode_goes_on_from_any_turn_as_it_did(
    made: tuple[Episode, Limits], data: st.DataObject
) -> None:
    episode, limits = made
    if not episode.turns:
        return
    turn = data.draw(st.integers(0, len(episode.turns) - 1))
    environment, seen = fresh(episode, limits), []
    replay(environment, episode, num_turns=turn, follow=lambda view, sample: seen.append(view))
    assert [len(view.prompt_ids) for view in seen] == [t.prompt_end for t in episode.turns[:turn]]
    again = go_on(environment, episode, start=turn)
    assert again == episode


def play(words: Sequence[list], limits: Limits) -> Episode:
    environment = new_environment(limits=limits, files=LONG, run_visible=report)
    for each in words:
        environment.step(sample_of(each, cut=False))
    return environment.record(METADATA, outcome=None)


EDIT = call("edit_lines", path="m0.py", start=3, end=3, text="    return abs(a - b)\n    # so")
TURNS = [
    [call("read_file", path="m0.py"), call("run_tests", selector="x")],
    [EDIT, call("note", file="m0.py", facts="fixed", lines="3-3"), call("run_tests")],
    [call("evict", observation_ids=["o1", "o2"])],
    [call("edit_lines", path="m0.py", start=1, end=1, text="def qax(a, b):\n")],
    [call("compact", summary="m0 done")],
    [call("read_file", path="m1.py")],
    [call("submit")],
]
LIMITS = Limits(900, 14, 64, 160)


def test_workspace_notes_and_counters_are_those_of_the_episode() -> None:
    episode = play(TURNS, LIMITS)
    for turn in range(len(TURNS)):
        environment = fresh(episode, LIMITS)
        replay(environment, episode, num_turns=turn)
        by_hand = fresh(episode, LIMITS)
        for words in TURNS[:turn]:
            by_hand.step(sample_of(words, cut=False))
        assert environment.workspace.changes() == by_hand.workspace.changes()
        assert environment.view() == by_hand.view()
        assert environment.events == by_hand.events
    assert [has_rewritten(events) for events in split_turns(episode)] == [
        False, False, True, False, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"limits": Limits(901, 14, 64, 160)}, id="another window"),
        pytest.param({"limits": Limits(900, 14, 64, 20)}, id="results are cut otherwise"),
        pytest.param({"tools": "brief"}, id="another prompt"),
        pytest.param({"files": {**LONG, "m1.py": "x = 1\n"}}, id="another task"),
    ],
)
def test_what_would_be_played_otherwise_today_is_refused(other: dict) -> None:
    episode = play(TURNS, LIMITS)
    given_ = {"limits": LIMITS, "files": LONG, "run_visible": report} | other
    with pytest.raises(UserError, match="another tokenizer, prompt, limit, task set") as caught:
        replay(new_environment(**given_), episode, num_turns=len(TURNS) - 1)
    assert "tightrope evaluate" in caught.value.remedy
