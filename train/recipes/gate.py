"""The gate between warm start and GRPO: can RL improve what the policy does on dev tasks?

`train/recipes/sft.py` measures at its end and writes the facts into `done`; `train/recipes/grpo.py`
refuses a warm start that leaves no signal or that hardly rewrites its context. Where few dev tasks
have a window that needs a rewrite, that says little, and the gate warns instead.
"""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from envs.errors import InfrastructureError, UserError
from envs.records import Episode
from envs.tools import REWRITES, list_tools
from rewards.cost import num_compactions, num_evictions
from rewards.intervals import wilson_interval
from rewards.outcome import is_scorable, is_solved
from train.config.settings import Settings
from train.models.distributed import share, take_share
from train.rollouts.requests import EpisodeRequest
from train.rollouts.runner import RolloutRunner, open_runner
from train.stages.progress import Progress
from train.stages.run_dir import StageDir
from train.stages.stage_log import say

PASS_RATE = (0.20, 0.80)  # below: no group has signal; above: nothing is left to learn
REWRITE_SHARE = (
    0.10  # of episodes that need a rewrite must evict or compact: either may be of no use
)
_OLD_NAMES = {  # of facts, in runs made before 2026-12
    "dev_needs_rewrite": "dev_forced",
    "compact_share": "forced_compact_share",
    "evict_share": "forced_evict_share",
}
_NUM_TASKS = 48  # dev episodes; a pass rate of 50 % is then known to 14 points (95 %)
_NUM_TIGHT = 60  # episodes that need a rewrite: a share of 10 % is then known to 8 points
_MOST_TIGHT = 4  # of them on one task
LEAST_TO_JUDGE = 30  # with fewer, a share of 10 % is 0 of them in one gate of twenty


def measure_gate(settings: Settings, model: Any, *, is_main: bool = True) -> dict[str, Any]:
    """Play dev tasks with the warm-started policy, each process its share; all get the facts.

    Once each in the window that is drawn for it, and, where some window of the run would need a
    rewrite, again in such windows: too few do by chance to tell whether the policy rewrites.
    """
    with open_runner(settings) as runner:
        task_ids = [task.id for task in runner.store.split("dev")[:_NUM_TASKS]]
        drawn = runner.draw_requests(task_ids, stage="gate")
        context = settings.context
        rewrites = set(REWRITES) <= set(list_tools(context.strategy, context.without))
        tight = draw_tight_requests(runner, task_ids) if rewrites else []
        requests = [*drawn, *tight]
        with Progress(
            "dev tasks", total=len(take_share(requests)), unit="episodes", enabled=is_main
        ) as progress:
            play = partial(
                runner.play_model, model=model, policy="sft", on_episode=progress.advance
            )
            episodes = share(requests, play)
    return gather_facts(episodes[: len(drawn)], episodes[len(drawn) :], rewrites=rewrites)


def draw_tight_requests(runner: RolloutRunner, task_ids: Sequence[str]) -> list[EpisodeRequest]:
    """Return requests in windows that need a rewrite, task after task until there are enough."""

    def window_of(task_id: str, rng: random.Random) -> int:
        window = runner.windows.draw_kind(task_id, rng, needs_rewrite=True)
        assert window is not None, "only tasks that have one are asked"
        return window

    able = [
        task_id
        for task_id in task_ids
        if runner.windows.draw_kind(task_id, random.Random(0), needs_rewrite=True) is not None
    ]
    return runner.draw_requests(
        (able * _MOST_TIGHT)[:_NUM_TIGHT], stage="gate/needs_rewrite", window_of=window_of
    )


def gather_facts(
    drawn: Sequence[Episode], tight: Sequence[Episode], *, rewrites: bool
) -> dict[str, Any]:
    """Return what the gate looks at; the pass rate is that of `drawn`, in windows as they come.

    Raises:
        InfrastructureError: The machine broke all of `drawn`, which says nothing of the policy.
    """
    first = [episode for episode in drawn if is_scorable(episode)]
    if drawn and not first:
        cause = (outcome := drawn[0].outcome) and outcome.unscorable
        raise InfrastructureError(f"none of {len(drawn)} dev episodes could be scored: {cause}")
    scorable = [episode for episode in (*drawn, *tight) if is_scorable(episode)]
    needing = [episode for episode in scorable if episode.needs_rewrite and rewrites]
    num_needing = max(1, len(needing))
    return {
        "dev_tasks": len(first),
        "dev_pass_rate": sum(map(is_solved, first)) / max(1, len(first)),
        "rewrites": rewrites,
        "dev_needs_rewrite": len(needing),
        "rewrite_share": sum(num_compactions(e) + num_evictions(e) > 0 for e in needing)
        / num_needing,
        "compact_share": sum(num_compactions(e) > 0 for e in needing) / num_needing,
        "evict_share": sum(num_evictions(e) > 0 for e in needing) / num_needing,
    }


def _judge_rewriting(facts: dict[str, Any]) -> list[str]:
    """Say how often the policy rewrites where it must; returns what is too seldom."""
    number, shares = facts["dev_needs_rewrite"], (facts["evict_share"], facts["compact_share"])
    if not number:
        if facts.get("rewrites"):
            say("warning: no dev task has a window that needs a rewrite: rewriting is not judged")
        return []
    share = facts.get("rewrite_share", max(shares))  # at least; older runs say no more
    low, high = wilson_interval(round(share * number), number)
    text = f"{share:.0%} of {number} episodes that need a rewrite do one"
    text += f" (95 %: {low:.0%} to {high:.0%}); {shares[0]:.0%} evict, {shares[1]:.0%} compact"
    if number >= LEAST_TO_JUDGE and share < REWRITE_SHARE:
        return [text]
    few = number < LEAST_TO_JUDGE
    say(f"warning: {text}; too few to judge the warm start by" if few else f"gate: {text}")
    return []


def check_gate(sft: StageDir, *, force: bool) -> None:
    """Refuse a warm start that RL cannot use; with `force` say so and go on.

    Raises:
        UserError: The pass rate leaves no signal, or too few episodes rewrite that need to.
    """
    facts = sft.read_json("done")
    for new, old in _OLD_NAMES.items():
        facts.setdefault(new, facts.get(old))
    low, high = PASS_RATE
    problems = []
    if not low <= facts["dev_pass_rate"] <= high:
        problems.append(f"dev pass rate {facts['dev_pass_rate']:.0%}, not {low:.0%} to {high:.0%}")
    problems += _judge_rewriting(facts)
    if not problems:
        return
    text = "; ".join(problems)
    if not force:
        raise UserError(
            "the warm start is outside the gate for GRPO",
            got=text,
            remedy=(
                "train it longer or shorter (sft.epochs), make more demonstrations "
                "(sft.num_demonstrations, sft.needs_rewrite_share), or pass --force"
            ),
        )
    say(f"gate passed by --force: {text}")
