"""Plays the branches of forks, and says what they were worth in the run's reward.

    row = measure(branches, settings)        # of one fork: its line in RUN/fork/NAME.jsonl

A branch is a whole episode: the first turns of the saved one, a turn with a rewrite or without, and
what the policy makes of it. All branches of a fork are scored as one group: they have task, window
and first turns in common. The value of rewriting is the mean advantage of those that rewrote, less
that of the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, Literal

from envs.environment import EpisodeMetadata
from envs.episode import Bench, play_turn, run_episode
from envs.records import Episode
from envs.tools import list_tools
from envs.workers.limits import Failure
from rewards.cost import billed_tokens
from train.config.settings import Settings
from train.forks.points import ForkPoint
from train.forks.replay import has_rewritten, replay
from train.forks.turns import ForkedTurn, Kind
from train.rl.scoring import StepScoring
from train.rollouts.requests import draw_seed
from train.rollouts.runner import RolloutRunner

Arm = Literal["rewrite", "none"]
KINDS: Final[tuple[Kind, ...]] = ("evict", "compact")
TRIES: Final = 3
"""Turns of each kind of rewrite that are tried until one is carried out."""


@dataclass(frozen=True)
class Branch:
    """What is to be played.

    Attributes:
        point: Where it forks.
        arm: With a rewrite there, or without.
        sample: Its number in the arm, from 0; even ones try `evict` first, odd ones `compact`.
    """

    point: ForkPoint
    arm: Arm
    sample: int


@dataclass(frozen=True)
class Played:
    """A branch that was played.

    Attributes:
        branch: Which.
        episode: Its record; None if the machine failed, or no rewrite was carried out.
        kind: Of the rewrite; None in the other arm.
        num_tries: Turns at the fork until one was as it should be.
        failure: What of the machine failed, '' if nothing did.
    """

    branch: Branch
    episode: Episode | None
    kind: Kind | None = None
    num_tries: int = 1
    failure: str = ""


@dataclass
class BranchPlayer:
    """Plays branches of the episodes of one policy.

    Attributes:
        runner: Everything that an episode needs.
        episodes: Those that are forked.
        open_turn: Makes what acts at a fork of an episode and afterwards, with a seed of its own.
        forget: Called with each such seed when it has been used.
    """

    runner: RolloutRunner
    episodes: Sequence[Episode]
    open_turn: Callable[[Episode, int], ForkedTurn]
    forget: Callable[[int], None] = lambda seed: None

    async def play(self, branch: Branch) -> Played:
        """Play one branch; the machine's failures are tried again, as in any episode.

        Raises:
            UserError: The saved episode is not what would be played today.
        """
        context = self.runner.settings.context
        tools = list_tools(context.strategy, context.without)
        kinds = [kind for kind in KINDS if kind in tools]
        if branch.sample % 2:
            kinds.reverse()
        tries: list[Kind | None] = [kind for kind in kinds for _ in range(TRIES)]

        async def attempt(bench: Bench) -> Played:
            for number, kind in enumerate(tries if branch.arm == "rewrite" else [None], start=1):
                if episode := await self._try(branch, kind, number, bench):
                    return Played(branch, episode, kind, number)
            return Played(branch, None, num_tries=len(tries))

        found = await self.runner.insist(attempt)
        return Played(branch, None, failure=found.cause) if isinstance(found, Failure) else found

    async def _try(
        self, branch: Branch, kind: Kind | None, number: int, bench: Bench
    ) -> Episode | None:
        """Play with the turn of this number; None if its rewrite was not carried out."""
        point, runner = branch.point, self.runner
        saved, deadline_s = self.episodes[point.episode], runner.settings.rollouts.turn_limit_s
        seed = draw_branch_seed(branch, number, run_seed=runner.settings.run.seed, saved=saved)
        environment = runner.make_environment(
            runner.store.public[point.task_id],
            window_tokens=saved.window_tokens,
            thresholds=saved.thresholds,
        )
        metadata = EpisodeMetadata(
            group_id=f"fork/{point.episode}/{point.turn}/{branch.arm}",
            sample_index=branch.sample,
            seed=seed,
            policy=saved.policy,
            policy_version=saved.policy_version,
            reference_cost=saved.reference_cost,
            needs_rewrite=saved.needs_rewrite,
            gold_spans=saved.gold_spans,
        )
        turn = self.open_turn(saved, seed)
        try:
            replay(environment, saved, num_turns=point.turn, follow=turn.follow)
            view, num_before = environment.view(), len(environment.events)
            sample = await (turn.rewrite(view, kind) if kind else turn.refrain(view))
            await play_turn(environment, sample, bench=bench, deadline_s=deadline_s)
            if kind and not has_rewritten(environment.events[num_before:]):
                return None
            return await run_episode(
                environment, turn.policy, bench=bench, metadata=metadata, deadline_s=deadline_s
            )
        finally:
            self.forget(seed)


def list_branches(point: ForkPoint, *, num_samples: int) -> list[Branch]:
    """Return the branches of a fork: so many with a rewrite, and as many without."""
    arms: tuple[Arm, ...] = ("rewrite", "none")
    return [Branch(point, arm, sample) for sample in range(num_samples) for arm in arms]


def draw_branch_seed(branch: Branch, number: int, *, run_seed: int, saved: Episode) -> int:
    """Return the seed of what is sampled in a branch, for each try another one."""
    at = (saved.policy, saved.group_id, saved.task_id, saved.sample_index, branch.point.turn)
    return draw_seed(run_seed, "fork", *at, branch.arm, branch.sample, number)


def measure(branches: Sequence[Played], settings: Settings) -> dict[str, Any]:
    """Return the row of a fork; its value is None where an arm has no branch that was scored.

    Args:
        branches: All of the fork.
        settings: The experiment; of the reward the weight of cost is that of the first step, and
            episodes at a limit count as failures.
    """
    grpo = settings.grpo.model_copy(update={"overlong": "keep"})
    scoring = StepScoring(settings.model_copy(update={"grpo": grpo}))
    branches = sorted(branches, key=lambda played: (played.branch.sample, played.branch.arm))
    whole = [(played, played.episode) for played in branches if played.episode is not None]
    scores = scoring.score([episode for _, episode in whole])
    rows, values = [], list[tuple[Played, dict[str, float]]]()
    for (played, episode), score in zip(whole, scores, strict=True):
        numbers = {
            "value": score.advantage,
            "solved": float(score.solved),
            "tokens": float(billed_tokens(episode)),
        }
        rows.append(_describe(played) | numbers | {"cost": score.cost, "turns": len(episode.turns)})
        rows[-1]["stop_reason"] = episode.stop_reason.value
        if score.scorable:
            values.append((played, numbers))
    rows += [_describe(played) for played in branches if played.episode is None]
    return {**vars(branches[0].branch.point), **_compare_arms(values), "branches": rows}


def _describe(played: Played) -> dict[str, Any]:
    about = {"arm": played.branch.arm, "sample": played.branch.sample, "kind": played.kind}
    if played.episode is None:
        return about | {"failure": played.failure or "no rewrite was carried out"}
    return about | {"num_tries": played.num_tries, "seed": played.episode.seed}


def _compare_arms(values: Sequence[tuple[Played, dict[str, float]]]) -> dict[str, Any]:
    """Return means with a rewrite less those without, all together and by kind."""
    names = ("value", "solved", "tokens")
    without = [numbers for played, numbers in values if played.kind is None]
    rewritten = [(played.kind, numbers) for played, numbers in values if played.kind]
    found: dict[str, Any] = dict.fromkeys(names) | {"by_kind": {}}
    if not without or not rewritten:
        return found
    for name in names:
        base = fmean(numbers[name] for numbers in without)
        found[name] = fmean(numbers[name] for _, numbers in rewritten) - base
    base = fmean(numbers["value"] for numbers in without)
    for kind in KINDS:
        if mine := [numbers["value"] for each, numbers in rewritten if each == kind]:
            found["by_kind"][kind] = fmean(mine) - base
    return found
