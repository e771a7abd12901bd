"""Ways for a policy to look cheap without a repair, or to move its tokens: none of them pays.

Each plays scripted calls in the real episode loop and is scored by the default reward.
"""

import pytest

from envs.environment import EpisodeMetadata
from envs.policies import call
from envs.records import Episode, Outcome
from rewards.advantages import score_group
from rewards.cost import billed_tokens
from tests.envs.world import FILES, LIMITS, SOLVED, new_environment, sample_of

UNSOLVED = Outcome(fail_to_pass_rate=0.0, pass_to_pass_rate=1.0, sandbox_level="none")
READ, SUBMIT = call("read_file", path="m0.py"), call("submit")
EDIT = call("edit_lines", path="m0.py", start=3, end=3, text="    return abs(a - b)")
HONEST = [READ, EDIT, SUBMIT]
LONG_NOTE = call("note", file="m0.py", facts="qax takes the absolute value of a minus b and so on")


def played(calls: list[object], *, outcome: Outcome = SOLVED, files: object = FILES) -> Episode:
    environment = new_environment(files=files)  # type: ignore[arg-type]
    for each in calls:
        environment.step(sample_of([each]))  # type: ignore[list-item]
    metadata = EpisodeMetadata("g", 0, 0, "x", 0, 0.0, False)
    return environment.record(metadata, outcome=outcome)


@pytest.mark.parametrize(
    "dodge",
    [[SUBMIT], [EDIT, SUBMIT], [call("compact", summary="done"), SUBMIT]],
    ids=["submits at once", "guesses an edit", "compacts and submits"],
)
def test_an_unsolved_episode_earns_less_than_any_repair_however_cheap_it_is(dodge):
    wordy = [READ, LONG_NOTE, *[READ] * 6, EDIT, SUBMIT]
    cheap, dear = played(dodge, outcome=UNSOLVED), played(wordy)
    group = [played(HONEST), dear, cheap, cheap]
    assert billed_tokens(cheap) < billed_tokens(dear) / 3
    honest, slow, *dodges = (score.advantage for score in score_group(group))
    assert honest > slow > 0 > max(dodges)


def test_where_nobody_solves_being_cheap_earns_nothing():
    group = [played(HONEST, outcome=UNSOLVED), played([SUBMIT], outcome=UNSOLVED)]
    assert [score.advantage for score in score_group(group)] == [0.0, 0.0]


@pytest.mark.parametrize(
    "more",
    [call("compact", summary="seen"), call("evict", observation_ids=["o1"]), LONG_NOTE],
    ids=["compact", "evict", "note"],
)
def test_a_rewrite_or_a_note_erases_no_cost(more):
    plain, dodge = played([READ, SUBMIT]), played([READ, more, SUBMIT])
    assert billed_tokens(dodge) > billed_tokens(plain)
    assert len(dodge.turns) == 3  # the turn of the dodge is on the bill, and so is what it left


def test_what_a_tool_prints_is_billed_and_bounded():
    files = FILES | {"m0.py": "".join(f"value_{n} = {n}\n" for n in range(5_000))}
    small, huge = played([READ, SUBMIT]), played([READ, SUBMIT], files=files)
    extra = billed_tokens(huge) - billed_tokens(small)
    assert 0 < extra <= 2 * LIMITS.observation_tokens
