"""Which turns of an episode were mistakes, by its record alone.

A call was refused, none was made, or an edit was made again: its lines were written anew by a
later one. What a warm start learns is the repair (`train/recipes/sft.py`).
"""

from collections import defaultdict

from envs.records import Episode, Observed
from rewards.reading import read_edit


def find_mistakes(episode: Episode) -> frozenset[int]:
    """Return the numbers, from 0, of the turns that were mistakes.

    A turn of several calls is one if any of them was. Results of a turn that submits are not
    recorded, and a turn that rewrites by `compact` shows none.
    """
    refused = {
        observation.id
        for event in episode.events
        if isinstance(event, Observed)
        for observation in event.observations
        if observation.was_refused
    }
    found = set[int]()
    written = defaultdict[str, dict[int, int]](dict)  # turns by the lines that they wrote
    for number, turn in enumerate(episode.turns):
        if refused.intersection(turn.observation_ids):
            found.add(number)
            continue
        for path, start, end, num_new in filter(None, map(read_edit, turn.calls)):
            lines, moved_by = written[path], num_new - (end - start + 1)
            found |= {by for line, by in lines.items() if start <= line <= end}
            written[path] = {
                line + (moved_by if line > end else 0): by
                for line, by in lines.items()
                if not start <= line <= end
            } | dict.fromkeys(range(start, start + num_new), number)
    return frozenset(found)
