"""A turn is opened so that it rewrites, or drawn until it does not; the same policy writes it."""

import asyncio
from dataclasses import dataclass, field

import pytest

from envs.environment import Environment, read_turn
from envs.errors import UserError
from envs.habits.options import ScriptOptions
from envs.policies import ScriptedPolicy, call, make_script
from envs.records import Compacted, Evicted, Ids, Sample, View
from tests.envs.world import CHAT, FILES, HIDDEN, TASK, new_environment, sample_of
from train.forks.turns import NUM_DRAWS, SampledTurn, ScriptedTurn, find_opening

READ = call("read_file", path="m0.py")
EVICT = call("evict", observation_ids=["o1"])


@dataclass
class Speaker:
    """A policy that says what it is told to, one after another, and keeps what it was shown."""

    said: list[Ids]
    prompts: list[Ids] = field(default_factory=list)

    async def act(self, view: View) -> Sample:
        self.prompts.append(view.prompt_ids)
        ids = self.said.pop(0)
        return Sample(token_ids=ids, sampling_logps=(-0.5,) * len(ids), finish="stop")


def environment_with_results() -> Environment:
    environment = new_environment()
    environment.step(sample_of([READ]))
    environment.step(sample_of([call("read_file", path="m1.py")]))
    return environment


def turn_of(*said: Ids, max_new_tokens: int = 48) -> SampledTurn:
    return SampledTurn(Speaker(list(said)), CHAT, max_new_tokens)


@pytest.mark.parametrize("made", [EVICT, call("compact", summary="done with m0")], ids=str)
def test_the_opening_is_forced_and_the_rest_is_the_models_own(made) -> None:  # type: ignore[no-untyped-def]
    environment = environment_with_results()
    view, opening = environment.view(), find_opening(CHAT, made.name)
    whole = CHAT.call_ids([made])
    assert whole[: len(opening)] == opening and 3 < len(opening) < len(whole) - 2
    assert str(made.arguments) not in CHAT.decode(opening)
    turn = turn_of(whole[len(opening) :])
    sample = asyncio.run(turn.rewrite(view, made.name))
    assert turn.policy.prompts == [view.prompt_ids + opening]
    assert sample.token_ids == whole, "metered with what it was opened with"
    assert sample.sampling_logps == (0.0,) * len(opening) + (-0.5,) * (len(whole) - len(opening))
    environment.step(sample)
    assert isinstance(environment.events[-1], Evicted | Compacted)


def test_a_turn_that_is_opened_is_no_longer_than_any_other() -> None:
    opening = find_opening(CHAT, "evict")
    sample = asyncio.run(turn_of((5,) * 48).rewrite(environment_with_results().view(), "evict"))
    assert len(sample.token_ids) == len(sample.sampling_logps) == 48
    assert sample.finish == "length" and sample.token_ids[: len(opening)] == opening


def test_it_is_drawn_again_until_it_calls_no_rewrite() -> None:
    view = environment_with_results().view()
    with_evict, without = CHAT.call_ids([READ, EVICT]), CHAT.call_ids([READ])
    turn = turn_of(with_evict, with_evict, without, with_evict)
    assert asyncio.run(turn.refrain(view)).token_ids == without
    assert turn.policy.prompts == [view.prompt_ids] * 3


@pytest.mark.parametrize(("calls", "left"), [([READ, EVICT], [READ]), ([EVICT], [])], ids=str)
def test_a_policy_that_always_rewrites_does_what_else_it_does(calls, left) -> None:  # type: ignore[no-untyped-def]
    turn = turn_of(*[CHAT.call_ids(calls)] * NUM_DRAWS)
    sample = asyncio.run(turn.refrain(environment_with_results().view()))
    assert list(read_turn(sample, CHAT)[1]) == left
    assert turn.policy.said == []


def script(**options: object) -> ScriptedTurn:
    made = make_script(
        "careful",
        task=TASK,
        hidden=HIDDEN,
        files=FILES,
        chat=CHAT,
        options=ScriptOptions(find="file", **options),  # type: ignore[arg-type]
    )
    return ScriptedTurn(ScriptedPolicy(made, chat=CHAT, max_new_tokens=48), CHAT, 48)


@pytest.mark.parametrize("kind", ["evict", "compact"])
def test_a_script_rewrites_all_and_goes_on_with_what_it_was_about_to_do(kind) -> None:  # type: ignore[no-untyped-def]
    environment, turn, other = environment_with_results(), script(), script()
    before = environment.view()
    environment.step(asyncio.run(turn.rewrite(before, kind)))
    live = [each.id for each in environment.view().observations]
    assert isinstance(environment.events[-1], Evicted | Compacted)
    assert live == (["o3"] if kind == "evict" else [])
    after = turn.policy.next_sample(environment.view())
    assert after.token_ids == other.policy.next_sample(before).token_ids


def test_a_script_leaves_its_rewrites_out_and_keeps_what_else_it_does() -> None:
    environment, turn = new_environment(), script(rewrite="compact", eager=True)
    names = []
    while environment.stop_reason is None:
        sample = asyncio.run(turn.refrain(environment.view()))
        names += [each.name for each in read_turn(sample, CHAT)[1]]
        environment.step(sample)
    assert "compact" not in names and names[-1] == "submit"
    assert names.count("edit_lines") == 2


def test_a_script_that_would_do_something_else_is_refused() -> None:
    view = new_environment().view()
    turn = script()
    turn.follow(view, script().policy.next_sample(view))
    with pytest.raises(UserError, match="does not do again"):
        script().follow(view, sample_of([call("list_files")]))
