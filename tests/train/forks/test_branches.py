"""What a rewrite is worth to scripts that need one, or need none; the reward says how much."""

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest

from envs.errors import InfrastructureError
from envs.habits.options import ScriptOptions
from envs.records import Episode, Sample, StopReason, View
from envs.workers.workbench import Workbench
from rewards.cost import billed_tokens
from rewards.outcome import is_solved
from tests.envs.world import CHAT, TASK, Believing, InProcess, OneTask
from tests.train.rollouts.test_runner import REQUEST, SETTINGS
from train.forks.branches import TRIES, BranchPlayer, Played, list_branches, measure
from train.forks.points import ForkPoint, list_points
from train.forks.turns import SampledTurn, ScriptedTurn
from train.rollouts.runner import RolloutRunner

TIGHT, ROOMY = 330, 480
WEIGHT = SETTINGS.reward.cost_weight
NEVER = ScriptOptions(find="file", rewrite="none")


def new_runner(bench: Any = None) -> RolloutRunner:
    bench = bench or InProcess(Workbench(OneTask(), Believing()))  # type: ignore[arg-type]
    return RolloutRunner(OneTask(), CHAT, SETTINGS, bench)  # type: ignore[arg-type]


def play(runner: RolloutRunner, window: int, options: ScriptOptions) -> Episode:
    request = replace(REQUEST, window_tokens=window)
    make = lambda request: runner.make_script(TASK.id, "careful", options=options)  # noqa: E731
    return asyncio.run(runner.play(request, make, policy="careful"))


def points_of(episode: Episode) -> list[ForkPoint]:
    return list_points([episode], max_turns=12, max_new_tokens=48)


def scripted(runner: RolloutRunner, episode: Episode, options: ScriptOptions) -> BranchPlayer:
    def open_turn(saved: Episode, seed: int) -> ScriptedTurn:
        return ScriptedTurn(runner.make_script(TASK.id, "careful", options=options), CHAT, 48)

    return BranchPlayer(runner, [episode], open_turn)


def play_fork(player: BranchPlayer, point: ForkPoint, *, num_samples: int = 2) -> list[Played]:
    branches = list_branches(point, num_samples=num_samples)
    return [asyncio.run(player.play(branch)) for branch in branches]


def rows_of(window: int, options: ScriptOptions) -> tuple[Episode, list[dict[str, Any]]]:
    runner = new_runner()
    episode = play(runner, window, options)
    player = scripted(runner, episode, options)
    return episode, [measure(play_fork(player, p), SETTINGS) for p in points_of(episode)]


def test_where_a_rewrite_is_needed_it_is_worth_a_solved_task() -> None:
    episode, rows = rows_of(TIGHT, NEVER)
    assert episode.stop_reason is StopReason.CONTEXT_OVERFLOW
    needed = [row for row in rows if row["solved"] == 1.0]
    assert needed, "in time"
    for row in needed:
        assert row["value"] == pytest.approx(1.0, abs=0.5), "the price of context is beside it"
        assert row["value"] > 0.5 and set(row["by_kind"]) == {"evict", "compact"}
        arms = {(each["arm"], each["solved"]) for each in row["branches"]}
        assert arms == {("rewrite", 1.0), ("none", 0.0)}
    assert all(row["value"] is None or row["value"] >= 0 for row in rows), (
        "never worse than failing"
    )


def test_where_none_is_needed_it_costs_what_the_reward_says_of_its_tokens() -> None:
    episode, rows = rows_of(ROOMY, NEVER)
    assert is_solved(episode) and rows
    for row in rows:
        assert row["solved"] == 0.0
        costs = {arm: [math.log(each["cost"]) for each in row["branches"] if each["arm"] == arm]
                 for arm in ("rewrite", "none")}  # fmt: skip
        mean = sum(sum(each) for each in costs.values()) / 4
        expected = {
            arm: sum(-WEIGHT * (cost - mean) / math.log(2) for cost in each) / 2
            for arm, each in costs.items()
        }
        assert row["value"] == pytest.approx(expected["rewrite"] - expected["none"])
        assert (row["value"] < 0) == (row["tokens"] > 0)
    last = max(rows, key=lambda row: row["turn"])
    assert last["value"] < 0 and last["tokens"] > 0, "there is nothing left to save"


def test_without_a_rewrite_a_script_that_rewrites_plays_what_it_would_play_without() -> None:
    options = ScriptOptions(find="file", rewrite="compact", eager=True)
    episode, rows = rows_of(ROOMY, options)
    (row,) = [row for row in rows if row["rewrote"]]
    forked = [each for each in row["branches"] if each["arm"] == "none"]
    plain = play(new_runner(), ROOMY, NEVER)
    assert {each["tokens"] for each in forked} == {float(billed_tokens(plain))}
    assert billed_tokens(plain) != billed_tokens(episode)


@dataclass
class Failing(InProcess):
    """A bench that fails some times, always on what is not yet over."""

    def __init__(self, num_failures: int) -> None:
        super().__init__(Workbench(OneTask(), Believing()))  # type: ignore[arg-type]
        self.left = num_failures

    async def use_tools(self, *given: Any, **named: Any) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise InfrastructureError("the sandbox died")
        return await super().use_tools(*given, **named)


def test_what_the_machine_broke_is_played_again_and_then_left_out() -> None:
    episode = play(new_runner(), ROOMY, NEVER)
    point = points_of(episode)[0]
    good = play_fork(scripted(new_runner(), episode, NEVER), point)
    again = play_fork(scripted(new_runner(Failing(2)), episode, NEVER), point)
    assert again == good
    lost = play_fork(scripted(new_runner(Failing(3)), episode, NEVER), point, num_samples=1)
    assert [each.failure for each in lost] == ["the sandbox died", ""]
    row = measure(lost, SETTINGS)
    assert row["value"] is None and row["by_kind"] == {}
    assert [each.get("failure") for each in row["branches"]] == [None, "the sandbox died"]


class Stubborn:
    """Calls what cannot be carried out, however its turn is begun."""

    def __init__(self) -> None:
        self.num_asked = 0

    async def act(self, view: View) -> Sample:
        self.num_asked += 1
        return Sample(token_ids=(CHAT.eot_id,), sampling_logps=(-0.5,), finish="stop")


def test_a_rewrite_that_is_not_carried_out_is_tried_again_with_other_seeds_and_counts_as_none() -> (
    None
):
    runner = new_runner()
    episode = play(runner, ROOMY, NEVER)
    seeds: list[int] = []
    policy = Stubborn()

    def open_turn(saved: Episode, seed: int) -> SampledTurn:
        seeds.append(seed)
        return SampledTurn(policy, CHAT, 48)

    forgotten: list[int] = []
    player = BranchPlayer(runner, [episode], open_turn, forgotten.append)
    rewrite, none = play_fork(player, points_of(episode)[0], num_samples=1)
    assert rewrite.episode is None and rewrite.num_tries == 2 * TRIES
    assert none.episode is not None and none.episode.stop_reason is StopReason.NO_TOOL_CALL
    assert len(set(seeds)) == len(seeds) == 2 * TRIES + 1
    assert forgotten == seeds
    row = measure([rewrite, none], SETTINGS)
    assert row["value"] is None
    assert row["branches"][1]["failure"] == "no rewrite was carried out"


def test_branches_are_whole_episodes_that_begin_alike() -> None:
    runner = new_runner()
    episode = play(runner, ROOMY, NEVER)
    player = scripted(runner, episode, NEVER)
    for point in points_of(episode):
        for played in play_fork(player, point, num_samples=1):
            branch = played.episode
            assert branch is not None
            assert branch.turns[: point.turn] == episode.turns[: point.turn]
            assert branch.window_tokens == episode.window_tokens
            assert branch.reference_cost == episode.reference_cost
            assert (played.kind is None) == (branch.events[: len(episode.events)] == episode.events)
