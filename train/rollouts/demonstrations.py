"""Demonstrations: scripted episodes, executed for real, kept if solved and done with open eyes.

The mix of scripts is configuration: a share is wasteful, so that RL has something to unlearn, a
share is on tasks whose window needs evict or compact, a share makes a mistake and repairs it. Each
demonstration is a slot with a habit (`envs/habits/options.py`) and a demand; draws that do not meet
the demand, are not solved, do not show the habit, or edit lines that no view of the episode had
shown (`envs/unseen.py`) are drawn again. The same seed gives the same demonstrations.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from envs.errors import InfrastructureError, UserError
from envs.habits.options import HABITS, Habit, Kind, ScriptOptions, draw_habit, draw_options
from envs.records import Episode, RepairTask, Split
from envs.tools import list_tools
from envs.unseen import find_unseen_edits
from rewards.cost import billed_tokens, num_compactions, num_evictions
from rewards.mistakes import find_mistakes
from rewards.outcome import is_scorable, is_solved
from rewards.reading import read_back
from train.config.settings import Settings
from train.rollouts.concurrency import run_bounded
from train.rollouts.requests import EpisodeRequest, draw_seed
from train.rollouts.runner import RolloutRunner

_CONCURRENCY = 4
_MAX_DRAWS = 400  # of task and window, per try: where windows are small few tasks need no rewrite
_MAX_REPEATS = 3  # of an episode that the machine broke; it counts as no try
_MAX_TRIES = 100  # per slot: wasteful scripts and `evict` rarely fit such a window, but some do
_TRIES_OF_HABIT = 8  # then another is drawn: in wide windows little can be evicted, say
_TRIES_WITH_MISTAKE = (
    20  # then none is asked for; in tiny's windows 8 lose a fifth of them, 20 none
)
_ROOTS = (math.sqrt(2), math.sqrt(3), math.sqrt(5))  # of wasteful, of tight, of erring ones
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
        costs: dict[Kind, list[int]] = {"careful": [], "wasteful": []}
        kind_of = {habit.name: habit.kind for habit in HABITS}
        for episode in self.episodes:
            costs[kind_of[episode.policy]].append(billed_tokens(episode))  # type: ignore[index]
        if not all(costs.values()):
            return None
        return statistics.median(costs["wasteful"]) / statistics.median(costs["careful"])


@dataclass
class Slot:
    """One demonstration to be made; its habit is drawn anew where it does not come about.

    `errs`: its record is to show a mistake.
    """

    index: int
    tasks: Sequence[RepairTask]
    kind: Kind
    needs_rewrite: bool
    rng: random.Random
    errs: bool
    habit: Habit = HABITS[0]


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
    tasks = runner.store.split(split)
    if not tasks:
        raise UserError(
            "there are no tasks to demonstrate",
            got=f"0 in the {split} split of {runner.store.folder}",
            remedy="build some (tasks.train); a test-only set can be evaluated only",
        )
    made, tight = Demonstrations(), list_tight(runner, tasks)

    async def fill(index: int) -> Episode:
        slot = draw_slot(runner.settings, index, tasks)
        if slot.needs_rewrite and not tight:
            slot.needs_rewrite = False
            made.num_unmet += 1
        elif slot.needs_rewrite:
            slot.tasks = tight
        episode = await _fill_slot(runner, slot, made)
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


def list_tight(runner: RolloutRunner, tasks: Sequence[RepairTask]) -> list[RepairTask]:
    """Return the tasks with windows that need a rewrite, if any of them is asked for."""
    if not runner.settings.sft.needs_rewrite_share:
        return []
    runner.windows.measure([task.id for task in tasks])
    rng = random.Random(0)  # a window is drawn or not, whatever it is
    draw = partial(runner.windows.draw_kind, rng=rng, needs_rewrite=True)
    return [task for task in tasks if draw(task.id) is not None]


def draw_slot(settings: Settings, index: int, tasks: Sequence[RepairTask]) -> Slot:
    """Draw what a demonstration is to be.

    Careful ones alone are made in windows that need a rewrite, so many more of them: who wastes has
    no room there (measured on pairs of bugs: 0 to 4 % solve, where a careful one nearly always
    does). Mistakes are made where there is room for them: in windows that need no rewrite.
    """
    sft = settings.sft
    waste, tight, err = (_spread(index, root) for root in _ROOTS)
    is_careful = waste >= sft.wasteful_share
    needs_rewrite = is_careful and tight * (1 - sft.wasteful_share) < sft.needs_rewrite_share
    roomy_share = max(1 - sft.needs_rewrite_share, sft.mistake_share)
    return Slot(
        index,
        tasks,
        kind="careful" if is_careful else "wasteful",
        needs_rewrite=needs_rewrite,
        rng=random.Random(draw_seed(settings.run.seed, "demonstrations", index)),
        errs=not needs_rewrite and err * roomy_share < sft.mistake_share,
    )


def _spread(index: int, root: float) -> float:
    """Return a number in [0, 1) of a sequence whose first members are spread as evenly as all.

    Multiples of an irrational number, modulo 1 (Weyl, Math. Annalen 77, 1916). So shares of few
    demonstrations come out as asked, too; of several roots, shares of both at once.
    """
    return (index + 0.5) * root % 1


async def _fill_slot(runner: RolloutRunner, slot: Slot, made: Demonstrations) -> Episode:
    """Draw and play until an episode is a demonstration."""
    num_sites = max(task.difficulty.sites for task in slot.tasks)
    tries = number = 0
    while number < _MAX_TRIES:
        slot.errs = slot.errs and number < _TRIES_WITH_MISTAKE
        if number % _TRIES_OF_HABIT == 0:
            _draw_habit(runner, slot, num_sites=num_sites)
        drawn = _draw_request(runner, slot)
        if drawn is None and slot.habit.num_sites > 1:  # too large for windows of that demand
            number, num_sites = 0, 1
            continue
        if drawn is None:
            break
        number, tries = number + 1, tries + 1
        episode = await _play(runner, slot, *drawn)
        made.num_played += 1
        fault = find_fault(runner, episode, slot.habit, errs=slot.errs)
        made.num_unseen += fault == "unseen"
        if fault is None:
            return episode
    demand = "that needs a rewrite" if slot.needs_rewrite else "that needs no rewrite"
    raise UserError(
        f"no {slot.kind} demonstration on a task {demand} could be solved",
        got=f"{tries} tries, at most {_MAX_DRAWS} draws for each",
        remedy="widen context.window_tokens, or change tasks.two_site_share or "
        "sft.needs_rewrite_share",
    )


def _draw_habit(runner: RolloutRunner, slot: Slot, *, num_sites: int) -> None:
    context = runner.settings.context
    slot.habit = draw_habit(
        slot.kind,
        rng=slot.rng,
        needs_rewrite=slot.needs_rewrite,
        tools=list_tools(context.strategy, context.without),
        num_sites=num_sites,
    )


def _draw_request(runner: RolloutRunner, slot: Slot) -> tuple[EpisodeRequest, ScriptOptions] | None:
    """Draw task, window and options until the demand is met; None if it is too seldom."""
    options = draw_options(slot.habit, rng=slot.rng, errs=slot.errs)
    for _ in range(_MAX_DRAWS):
        task = slot.rng.choice(slot.tasks)
        if task.difficulty.sites < slot.habit.num_sites:
            continue
        window = runner.windows.draw_kind(task.id, slot.rng, needs_rewrite=slot.needs_rewrite)
        if window is not None:
            group_id = f"demonstration/{slot.index}"
            return EpisodeRequest(task.id, group_id, 0, window, seed=slot.index), options
    return None


async def _play(
    runner: RolloutRunner, slot: Slot, request: EpisodeRequest, options: ScriptOptions
) -> Episode:
    """Play a request; what the machine broke is played again as it is, not drawn anew.

    Raises:
        InfrastructureError: It was broken too often.
    """
    for _ in range(1 + _MAX_REPEATS):
        episode = await runner.play(
            request,
            lambda request: runner.make_script(request.task_id, slot.kind, options=options),
            policy=slot.habit.name,
        )
        if is_scorable(episode):
            return episode
    cause = episode.outcome.unscorable if episode.outcome else ""
    raise InfrastructureError(f"demonstrations cannot be played: {cause}")


def find_fault(
    runner: RolloutRunner, episode: Episode, habit: Habit | None = None, *, errs: bool = False
) -> Literal["unsolved", "unseen", "no mistake", "other habit"] | None:
    """Return why an episode is no demonstration: of a habit, or of a mistake, if one is asked."""
    if not is_solved(episode):
        return "unsolved"
    if find_unseen_edits(episode, runner.store.workspace(runner.store.public[episode.task_id])):
        return "unseen"
    if errs and not find_mistakes(episode):
        return "no mistake"
    shown = habit is None or habit.shows(
        num_evictions=num_evictions(episode),
        num_compactions=num_compactions(episode),
        plans=bool(read_back(episode).planned),
    )
    return None if shown else "other habit"
