"""The gate between warm start and GRPO: can RL improve what the policy does on dev tasks?

`train/recipes/sft.py` measures at its end and writes the facts into `done`; `train/recipes/grpo.py`
refuses a warm start that leaves no signal or that hardly rewrites its context.
"""

from collections.abc import Callable, Sequence
from typing import Any

from envs.errors import InfrastructureError, UserError
from envs.records import Episode
from rewards.cost import num_compactions, num_evictions
from rewards.outcome import is_scorable, is_solved
from train.config.settings import Settings
from train.rollouts.arena import open_arena
from train.rollouts.engine import engine_for
from train.rollouts.runner import forced_requests, group_requests, model_policy
from train.stages.output import say
from train.stages.progress import Progress
from train.stages.run_dir import StageDir

PASS_RATE = (0.20, 0.80)  # below: no group has signal; above: nothing is left to learn
REWRITE_SHARE = 0.05  # of forced-window episodes must evict, and as many compact
_NUM_TASKS = 48  # dev episodes; a pass rate of 50 % is then known to 14 points (95 %)


def measure_gate(settings: Settings, model: Any) -> dict[str, Any]:
    """Play dev tasks with the warm-started policy.

    Once each in the window that is drawn for it, and, where a window of the run would force a
    rewrite, again in such a window: too few episodes are forced by chance to tell whether the
    policy rewrites at all.
    """
    with open_arena(settings) as arena:
        tasks = arena.store.split("dev")[:_NUM_TASKS]
        drawn = group_requests(
            settings, [task.id for task in tasks], stage="gate", step=0, group_size=1
        )
        rewrites = settings.context.strategy == "learned"
        forced = forced_requests(arena, tasks, stage="gate") if rewrites else []
        requests = [*drawn, *forced]
        engine = engine_for(model, arena.chat, settings)
        with Progress("dev tasks", total=len(requests), unit="episodes") as progress:
            episodes = arena.play_all(
                requests,
                model_policy(engine),
                policy="sft",
                concurrency=settings.grpo.generation_batch,
                engine=engine,
                on_episode=lambda r, e: progress.advance(),
            )
    return gate_facts(episodes[: len(drawn)], episodes[len(drawn) :], rewrites=rewrites)


def gate_facts(
    drawn: Sequence[Episode], forced: Sequence[Episode], *, rewrites: bool
) -> dict[str, Any]:
    """Return what the gate looks at; the pass rate is that of `drawn`, in windows as they come.

    Raises:
        InfrastructureError: The machine broke all of `drawn`, which says nothing of the policy.
    """
    first = [episode for episode in drawn if is_scorable(episode)]
    if drawn and not first:
        cause = (outcome := drawn[0].outcome) and outcome.unscorable
        raise InfrastructureError(f"none of {len(drawn)} dev episodes could be scored: {cause}")
    scorable = [episode for episode in (*drawn, *forced) if is_scorable(episode)]
    tight = [episode for episode in scorable if episode.forced and rewrites]
    return {
        "dev_tasks": len(first),
        "dev_pass_rate": sum(map(is_solved, first)) / max(1, len(first)),
        "dev_forced": len(tight),
        "forced_compact_share": _share(num_compactions, tight),
        "forced_evict_share": _share(num_evictions, tight),
    }


def check_gate(sft: StageDir, *, force: bool) -> None:
    """Refuse a warm start that RL cannot use; with `force` say so and go on.

    Raises:
        UserError: The pass rate leaves no signal, or too few forced episodes rewrite their context.
    """
    facts = sft.read_json("done")
    low, high = PASS_RATE
    problems = []
    if not low <= facts["dev_pass_rate"] <= high:
        problems.append(f"dev pass rate {facts['dev_pass_rate']:.0%}, not {low:.0%} to {high:.0%}")
    for name in ("compact", "evict"):
        share = facts[f"forced_{name}_share"]
        if facts["dev_forced"] and share < REWRITE_SHARE:
            problems.append(f"{share:.0%} of {facts['dev_forced']} forced episodes {name}")
    if not problems:
        return
    text = "; ".join(problems)
    if not force:
        raise UserError(
            "the warm start is outside the gate for GRPO",
            got=text,
            remedy=(
                "train it longer or shorter (sft.epochs), make more demonstrations "
                "(sft.num_demonstrations, sft.forced_share), or pass --force"
            ),
        )
    say(f"gate passed by --force: {text}")


def _share(number: Callable[[Episode], int], episodes: Sequence[Episode]) -> float:
    """Return the share of episodes in which something happened."""
    return sum(number(episode) > 0 for episode in episodes) / max(1, len(episodes))
