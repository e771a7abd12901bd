"""Turns of saved episodes at which the policy could have rewritten its context, and a draw of them.

Possible is a rewrite where results are in view, the limit of rewrites is not reached, and a turn is
left in which it could pay. A turn that answers the request for a summary is none. No torch here.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from envs.context.event_log import EventLog
from envs.environment import MAX_REWRITES
from envs.records import Episode
from rewards.outcome import is_scorable
from train.forks.replay import has_rewritten, split_turns

_LEAST_TURNS = 2  # after a rewrite in the last turn nothing is sampled


@dataclass(frozen=True)
class ForkPoint:
    """A turn of one episode.

    Attributes:
        episode: Place of the episode in its file, from 0.
        turn: From 0.
        task_id: The episode's.
        needs_rewrite: The episode's.
        fill: Share of what a view may hold that this one holds.
        remaining_tokens: The rest of it.
        turns_left: This one included.
        rewrote: Whether the policy rewrote there.
    """

    episode: int
    turn: int
    task_id: str
    needs_rewrite: bool
    fill: float
    remaining_tokens: int
    turns_left: int
    rewrote: bool


def list_points(
    episodes: Sequence[Episode], *, max_turns: int, max_new_tokens: int, least_fill: float = 0.0
) -> list[ForkPoint]:
    """Return all turns at which a rewrite was possible, of episodes that could be scored.

    Args:
        episodes: Those of one policy.
        max_turns: Turns that an episode may take.
        max_new_tokens: Of a sample, which each window keeps free.
        least_fill: Turns with a lower fill are left out.
    """
    return [
        point
        for place, episode in enumerate(episodes)
        if is_scorable(episode)
        for point in _list_points(episode, place, max_turns, max_new_tokens)
        if point.fill >= least_fill
    ]


def draw_points(points: Sequence[ForkPoint], *, num: int, seed: int) -> list[ForkPoint]:
    """Draw at random, half of them where the policy rewrote, as far as there are so many.

    A larger draw with the same seed holds a smaller one.
    """
    rng = random.Random(seed)
    kinds = [[point for point in points if point.rewrote == wanted] for wanted in (True, False)]
    rewrote, others = (rng.sample(kind, len(kind)) for kind in kinds)
    num_rewrote = min(len(rewrote), max(-(-num // 2), num - len(others)))
    return [*rewrote[:num_rewrote], *others[: num - num_rewrote]]


def _list_points(
    episode: Episode, place: int, max_turns: int, max_new_tokens: int
) -> list[ForkPoint]:
    log, points = EventLog(episode.events[:1]), list[ForkPoint]()
    most = episode.window_tokens - max_new_tokens
    for number, events in enumerate(split_turns(episode)):
        view, turns_left = log.view(), max_turns - number
        is_limited = log.num_own_rewrites >= MAX_REWRITES or turns_left < _LEAST_TURNS
        if view.observations and not view.asks_summary and not is_limited:
            held = len(view.prompt_ids)
            point = ForkPoint(
                episode=place,
                turn=number,
                task_id=episode.task_id,
                needs_rewrite=episode.needs_rewrite,
                fill=held / most,
                remaining_tokens=most - held,
                turns_left=turns_left,
                rewrote=has_rewritten(events),
            )
            points.append(point)
        for event in events:
            log.append(event)
    return points
