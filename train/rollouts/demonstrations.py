"""Demonstrations: scripted episodes, executed for real, kept if solved and done with open eyes.

The mix of scripts is configuration: a share is wasteful, so that RL has something to unlearn, and
a share is on tasks whose window needs evict or compact. Each demonstration is a slot with a kind
and a demand; draws that do not meet the demand, are not solved, or edit lines that no view of the
episode had shown (`envs/unseen.py`) are drawn again. The same seed gives the same demonstrations.
"""

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from envs.errors import InfrastructureError, UserError
from envs.policies import ScriptOptions, draw_options
from envs.records import Episode, Split
from envs.unseen import find_unseen_edits
from rewards.cost import billed_tokens, num_compactions
from rewards.outcome import is_scorable, is_solved
from train.rollouts.concurrency import run_bounded
from train.rollouts.requests import EpisodeRequest, draw_seed
from train.rollouts.runner import RolloutRunner

_CONCURRENCY = 4
_MAX_DRAWS = 400  # of task and window, per try: one in twenty tasks may need a rewrite
_MAX_REPEATS = 3  # of an episode that the machine broke; it counts as no try
_MAX_TRIES = 100  # per slot: wasteful scripts and `evict` rarely fit such a window, but some do
_TRIES_TO_EVICT = 25  # before the script compacts instead
_EVICT_SHARE = 0.5  # of careful demonstrations evict where they rewrite; the others compact
MAX_WASTE_RATIO = 3.0  # median cost of wasteful demonstrations over that of careful ones


@dataclass
class Demonstrations:
    """Kept episodes in slot order, and how many were played to get them.

    `num_unseen` counts those that were refused though solved: they edit lines never shown to them.
    `num_unmet` counts slots that ask for a window that needs a rewrite where no task has one.
    """

    episodes: list[Episode] = field(default_factory=list)
    num_played: int = 0
    num_unseen: int = 0
    num_unmet: int = 0

    def measure_waste_ratio(self) -> float | None:
        """Median billed tokens of wasteful demonstrations over careful ones'; None without both."""
        costs: dict[str, list[int]] = {"careful": [], "wasteful": []}
        for episode in self.episodes:
            costs[episode.policy].append(billed_tokens(episode))
        if not all(costs.values()):
            return None
        return statistics.median(costs["wasteful"]) / statistics.median(costs["careful"])


@dataclass(frozen=True)
class _Slot:
    index: int
    split: Split
    kind: Literal["careful", "wasteful"]
    needs_rewrite: bool
    rewrite: Literal["evict", "compact"]
    rng: random.Random


def make_demonstrations(
    runner: RolloutRunner,
    *,
    split: Split = "train",
    on_solved: Callable[[], None] = lambda: None,
) -> Demonstrations:
    """Play scripted episodes until every slot is solved.

    Args:
        runner: Plays them.
        split: Whose tasks are taken.
        on_solved: Called for each solved slot.

    Raises:
        UserError: No task is there, no draw meets a slot's demand, or waste costs too much.
        InfrastructureError: The machine broke an episode again and again.
    """
    if not runner.store.split(split):
        raise UserError(
            "there are no tasks to demonstrate",
            got=f"0 in the {split} split of {runner.store.folder}",
            remedy="build some (tasks.train); a test-only set can be evaluated only",
        )
    made = Demonstrations()

    async def fill(index: int) -> Episode:
        episode = await _fill_slot(runner, _draw_slot(runner, index, split), made)
        on_solved()
        return episode

    wanted = range(runner.settings.sft.num_demonstrations)
    made.episodes = run_bounded(fill, wanted, concurrency=_CONCURRENCY)
    ratio = made.measure_waste_ratio()
    if ratio is not None and ratio > MAX_WASTE_RATIO:
        raise UserError(
            "wasteful demonstrations cost too much beside careful ones",
            got=f"median ratio {ratio:.2f}, at most {MAX_WASTE_RATIO:g}",
            remedy="lower tasks.max_size or context.observation_tokens",
        )
    return made


def _draw_slot(runner: RolloutRunner, index: int, split: Split) -> _Slot:
    sft = runner.settings.sft
    rng = random.Random(draw_seed(runner.settings.run.seed, "demonstrations", index))
    return _Slot(
        index,
        split=split,
        kind="wasteful" if rng.random() < sft.wasteful_share else "careful",
        needs_rewrite=rng.random() < sft.needs_rewrite_share,
        rewrite="evict" if rng.random() < _EVICT_SHARE else "compact",
        rng=rng,
    )


async def _fill_slot(runner: RolloutRunner, slot: _Slot, made: Demonstrations) -> Episode:
    """Draw and play until an episode is a demonstration."""
    tries = 0
    if slot.needs_rewrite and not _draw_request(runner, slot):
        slot = replace(slot, needs_rewrite=False)
        made.num_unmet += 1
    while tries < _MAX_TRIES and (drawn := _draw_request(runner, slot)):
        tries += 1
        if tries == _TRIES_TO_EVICT:  # stubs and calls stay: it may not do in any such window
            slot = replace(slot, rewrite="compact")
        episode = await _play(runner, slot, *drawn)
        made.num_played += 1
        fault = _find_fault(runner, slot, episode)
        made.num_unseen += fault == "unseen"
        if fault is None:
            return episode.model_copy(update={"policy": slot.kind})
    demand = "that needs a rewrite" if slot.needs_rewrite else "that needs no rewrite"
    raise UserError(
        f"no {slot.kind} demonstration on a task {demand} could be solved",
        got=f"{tries} tries, at most {_MAX_DRAWS} draws for each",
        remedy="widen context.window_tokens, or change tasks.two_site_share or "
        "sft.needs_rewrite_share",
    )


def _draw_request(
    runner: RolloutRunner, slot: _Slot
) -> tuple[EpisodeRequest, ScriptOptions] | None:
    """Draw task, window and options until the demand is met; None if it is too seldom."""
    tasks, needs_rewrite = runner.store.split(slot.split), slot.needs_rewrite
    for _ in range(_MAX_DRAWS):
        task = slot.rng.choice(tasks)
        window = runner.windows.draw_kind(task.id, slot.rng, needs_rewrite=needs_rewrite)
        options = draw_options(slot.kind, rng=slot.rng)
        if slot.kind == "careful":  # kept over all tries: evicting fits fewer windows
            options = replace(options, rewrite=slot.rewrite)
        if window is not None:
            group_id = f"demonstration/{slot.index}"
            return EpisodeRequest(task.id, group_id, 0, window, seed=slot.index), options
    return None


async def _play(
    runner: RolloutRunner, slot: _Slot, request: EpisodeRequest, options: ScriptOptions
) -> Episode:
    """Play a request; what the machine broke is played again as it is, not drawn anew.

    Raises:
        InfrastructureError: It was broken too often.
    """
    for _ in range(1 + _MAX_REPEATS):
        episode = await runner.play(
            request,
            lambda request: runner.make_script(request.task_id, slot.kind, options=options),
            policy="demonstration",
        )
        if is_scorable(episode):
            return episode
    cause = episode.outcome.unscorable if episode.outcome else ""
    raise InfrastructureError(f"demonstrations cannot be played: {cause}")


def _find_fault(
    runner: RolloutRunner, slot: _Slot, episode: Episode
) -> Literal["unsolved", "unseen", "compacts"] | None:
    """Return why an episode is no demonstration; a script for `evict` compacts where it must."""
    if not is_solved(episode):
        return "unsolved"
    if find_unseen_edits(episode, runner.store.workspace(runner.store.public[episode.task_id])):
        return "unseen"
    evicts = slot.kind == "careful" and slot.rewrite == "evict"
    return "compacts" if evicts and num_compactions(episode) else None
