"""Groups in which every advantage is zero teach nothing: replaced by groups of further tasks.

The field calls it dynamic sampling (DAPO, arXiv 2503.14476, section 3.2). A signal of cost counts:
a group that all solve at different costs stays. The k-th replacement takes the place of the first
group without signal, whether it has one itself or not, until none is left, the limit is reached, or
there are no more tasks. The step then holds as many groups as ever, and only those are trained on;
the others were played and paid for, so they are saved, metered and counted beside them.

What has a signal is decided from what all processes have gathered, so all decide alike.

Tests: tests/train/rl/test_resampling.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from envs.records import Episode, Score
from rewards.cost import billed_tokens

Group = Sequence[Episode]


@dataclass(frozen=True)
class PlayedGroups:
    """The groups of one step, of all processes.

    Attributes:
        kept: Those that are trained on, by their place in the step.
        dropped: Those that others replaced, in the order in which they were played.
    """

    kept: Sequence[Group]
    dropped: Sequence[Group] = ()


def cut_groups(episodes: Sequence[Episode], *, size: int) -> list[Group]:
    """Cut the episodes of groups of this size, one behind the other, into groups."""
    return [episodes[start : start + size] for start in range(0, len(episodes), size)]


def group_episodes(episodes: Iterable[Episode]) -> list[Group]:
    """Return the groups that episodes of any file belong to, each as far as it is there."""
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(episode.group_id, []).append(episode)
    return list(groups.values())


def split_played(episodes: Iterable[Episode], *, num_groups: int, size: int) -> PlayedGroups | None:
    """Tell the groups of a step that was saved, kept ones first, from those that they replaced.

    Args:
        episodes: Of the step, the groups of `PlayedGroups` in order.
        num_groups: Of a step.
        size: Of a group.

    Returns:
        None if it was played as a step of other groups than these.
    """
    groups = group_episodes(episodes)
    places = [int(group[0].group_id.rpartition("/")[2]) for group in groups]
    moved = [at for at, place in enumerate(places[:num_groups]) if place != at]
    is_such = len(groups) >= num_groups and {len(group) for group in groups} == {size}
    # Others came after all groups of the step, and the first to go was the first without signal.
    is_such = is_such and all(places[at] >= num_groups for at in moved)
    if not is_such or places[num_groups : num_groups + 1] != moved[:1]:
        return None
    return PlayedGroups(groups[:num_groups], groups[num_groups:])


def has_signal(scores: Sequence[Score]) -> bool:
    """Tell whether a group moves the policy."""
    return any(score.advantage != 0.0 for score in scores)


def replace_silent(
    task_ids: Sequence[str],
    *,
    play: Callable[[Sequence[str], int], Sequence[tuple[Group, bool]]],
    draw: Callable[[int], Sequence[str]],
    most: int,
) -> PlayedGroups:
    """Play a group per task, and further ones in the place of those without signal.

    Args:
        task_ids: The tasks of the step.
        play: Plays groups of these tasks, the first of which is the n-th of the step, and tells of
            each whether it has a signal.
        draw: Returns up to so many further tasks.
        most: Most further groups of the step.
    """
    kept = list(play(task_ids, 0))
    dropped: list[Group] = []
    num_left = most
    while silent := [place for place, (_, speaks) in enumerate(kept) if not speaks][:num_left]:
        num_played = len(kept) + len(dropped)
        further = draw(len(silent))
        if not further:
            break
        num_left -= len(further)
        for place, found in zip(silent, play(further, num_played), strict=False):
            dropped.append(kept[place][0])
            kept[place] = found
    return PlayedGroups([group for group, _ in kept], dropped)


def describe_replaced(groups: PlayedGroups) -> dict[str, float]:
    """Return what replacing groups did in a step: numbers of groups, and what it cost in tokens."""
    spent = [
        sum(billed_tokens(episode) for group in part for episode in group)
        for part in (groups.kept, groups.dropped)
    ]
    return {
        "resample/num_groups_played": float(len(groups.kept) + len(groups.dropped)),
        "resample/num_groups_replaced": float(len(groups.dropped)),
        "resample/num_groups_kept": float(len(groups.kept)),
        "resample/billed_tokens_dropped": float(spent[1]),
        "resample/share_tokens_dropped": spent[1] / max(1, sum(spent)),
    }
