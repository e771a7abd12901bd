"""Demonstrations: scripted episodes, executed for real, kept if solved and done with open eyes.

The mix of scripts is configuration: a share is wasteful, so that RL has something to unlearn, and
a share is on tasks whose window forces evict or compact. Each demonstration is a slot with a kind
and a demand; draws that do not meet the demand, are not solved, or edit lines that no view of the
episode had shown (`envs/unseen.py`) are drawn again. The same seed gives the same demonstrations.
"""

import dataclasses
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from envs.errors import InfrastructureError, UserError
from envs.policies import ScriptOptions, draw_options
from envs.records import Episode, Policy, RepairTask
from envs.unseen import find_unseen_edits
from rewards.cost import billed_tokens, num_compactions
from rewards.outcome import is_scorable, is_solved
from train.rollouts.runner import Arena, Request, draw_seed

_BATCH = 64  # slots played between two progress reports
_MAX_DRAWS = 400  # of task and window, per try: a forced task may be one in twenty
_MAX_REPEATS = 3  # of an episode that the machine broke; it counts as no try
_MAX_TRIES = 100  # per slot: wasteful scripts and `evict` rarely fit a forced window, but some do
_EVICT_SHARE = 0.5  # of careful demonstrations evict where they rewrite; the others compact
MAX_WASTE_RATIO = 3.0  # median cost of wasteful demonstrations over that of careful ones

Rewrite = Literal["evict", "compact"]


@dataclass(frozen=True)
class Demonstrations:
    """Kept episodes in slot order, and how many were played to get them.

    `num_unseen` counts those that were refused though solved: they edit lines never shown to them.
    """

    episodes: list[Episode]
    num_played: int
    num_unseen: int

    def waste_ratio(self) -> float | None:
        """Median billed tokens of wasteful demonstrations over careful ones'; None without both."""
        costs: dict[str, list[int]] = {"careful": [], "wasteful": []}
        for episode in self.episodes:
            costs[episode.policy].append(billed_tokens(episode))
        if not all(costs.values()):
            return None
        return statistics.median(costs["wasteful"]) / statistics.median(costs["careful"])


@dataclass
class _Slot:
    index: int
    kind: Literal["careful", "wasteful"]
    forced: bool
    rewrite: Rewrite
    rng: random.Random
    options: ScriptOptions
    num_tries: int = 0


def make_demonstrations(arena: Arena, *, on_progress: Callable[[int, int], None]) -> Demonstrations:
    """Play scripted episodes until every slot is solved.

    Args:
        arena: Where they are played; only tasks of the train split are used.
        on_progress: Called with (solved, wanted) after each batch.

    Raises:
        UserError: No task is there, no draw meets a slot's demand, or waste costs too much.
        InfrastructureError: The machine broke an episode again and again.
    """
    tasks = arena.store.split("train")
    if not tasks:
        raise UserError(
            "there are no tasks to demonstrate",
            got=f"0 in the train split of {arena.store.folder}",
            remedy="build some (tasks.train); a test-only set can be evaluated only",
        )
    wanted = arena.settings.sft.num_demonstrations
    solved: dict[int, Episode] = {}
    num_played = num_unseen = 0
    for slots in _batches(arena, wanted):
        while slots:
            requests = {slot.index: _draw(arena, slot, tasks) for slot in slots}
            of_request = {requests[slot.index]: slot for slot in slots}
            policy_of = partial(_script, arena, of_request)
            episodes = _play(arena, list(requests.values()), policy_of)
            num_played += len(episodes)
            failed = []
            for slot, episode in zip(slots, episodes, strict=True):
                fault = _fault(arena, slot, episode)
                num_unseen += fault == "unseen"
                if fault is None:
                    solved[slot.index] = episode.model_copy(update={"policy": slot.kind})
                else:
                    failed.append(slot)
            slots = failed
        on_progress(len(solved), wanted)
    result = Demonstrations([solved[index] for index in range(wanted)], num_played, num_unseen)
    ratio = result.waste_ratio()
    if ratio is not None and ratio > MAX_WASTE_RATIO:
        raise UserError(
            "wasteful demonstrations cost too much beside careful ones",
            got=f"median ratio {ratio:.2f}, at most {MAX_WASTE_RATIO:g}",
            remedy="lower tasks.max_size or context.observation_tokens",
        )
    return result


def _fault(
    arena: Arena, slot: _Slot, episode: Episode
) -> Literal["unsolved", "unseen", "compacts"] | None:
    """Return why an episode is no demonstration; a script for `evict` compacts where it must."""
    if not is_solved(episode):
        return "unsolved"
    if find_unseen_edits(episode, arena.store.workspace(arena.store.public[episode.task_id])):
        return "unseen"
    evicts = slot.kind == "careful" and slot.rewrite == "evict"
    return "compacts" if evicts and num_compactions(episode) else None


def _batches(arena: Arena, wanted: int) -> Iterator[list[_Slot]]:
    sft, seed = arena.settings.sft, arena.settings.run.seed
    for start in range(0, wanted, _BATCH):
        slots = []
        for index in range(start, min(start + _BATCH, wanted)):
            rng = random.Random(draw_seed(seed, "demonstrations", index))
            wasteful = rng.random() < sft.wasteful_share
            kind: Literal["careful", "wasteful"] = "wasteful" if wasteful else "careful"
            forced = rng.random() < sft.forced_share
            rewrite: Rewrite = "evict" if rng.random() < _EVICT_SHARE else "compact"
            slots.append(_Slot(index, kind, forced, rewrite, rng, ScriptOptions()))
        yield slots


def _play(
    arena: Arena, requests: Sequence[Request], policy_of: Callable[[Request], Policy]
) -> list[Episode]:
    """Play requests; one that the machine broke is played again as it is, not drawn anew."""
    left, episodes = dict(enumerate(requests)), dict[int, Episode]()
    for _ in range(1 + _MAX_REPEATS):
        played = arena.play_all(
            list(left.values()), policy_of, policy="demonstration", concurrency=4
        )
        episodes |= zip(left, played, strict=True)
        left = {index: left[index] for index in left if not is_scorable(episodes[index])}
        if not left:
            return [episodes[index] for index in range(len(requests))]
    outcome = episodes[min(left)].outcome
    raise InfrastructureError(
        f"demonstrations cannot be played: {outcome.unscorable if outcome else ''}"
    )


def _script(arena: Arena, slots: dict[Request, _Slot], request: Request) -> Policy:
    slot, task = slots[request], arena.store.public[request.task_id]
    return arena.script(task, slot.kind, options=slot.options)


def _draw(arena: Arena, slot: _Slot, tasks: list[RepairTask]) -> Request:
    """Draw a task and a window until the demand is met, and new options with them."""
    low, high = arena.settings.context.window_tokens
    slot.num_tries += 1
    for _ in range(_MAX_DRAWS if slot.num_tries <= _MAX_TRIES else 0):
        task = slot.rng.choice(tasks)
        window = slot.rng.randint(low, high)
        slot.options = draw_options(slot.kind, rng=slot.rng)
        if slot.kind == "careful":  # kept over all tries: evicting fits fewer windows
            slot.options = dataclasses.replace(slot.options, rewrite=slot.rewrite)
        reference = arena.reference(task)
        if (window < reference.least_window) == slot.forced:
            return Request(
                task_id=task.id,
                group_id=f"demonstration/{slot.index}",
                sample_index=0,
                window_tokens=window,
                seed=slot.index,
            )
    demand = "a forced" if slot.forced else "an unforced"
    raise UserError(
        f"no {slot.kind} demonstration on {demand} task could be solved",
        got=f"{slot.num_tries} tries of {_MAX_DRAWS} draws",
        remedy="widen context.window_tokens, or change tasks.two_site_share or sft.forced_share",
    )
