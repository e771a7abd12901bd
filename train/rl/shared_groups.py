"""The groups of a step among processes: each has whole what it trains on, and what it played.

Of the others' episodes all need what metrics, counts and the weight of cost say, and for that an
episode without its token ids and log-probs is enough. Where a group is whole it is scored and
packed; the main process puts the packed parts one behind the other, and what one process played and
another trains on, because it took the place of a group without signal, is sent. One process has
everything.

Tests: tests/train/rl/test_shared_groups.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby

from accelerate import PartialState
from accelerate.utils import gather_object

from envs.files import pack_part, unpack_part
from envs.records import Episode, Event, Evicted, Observed, Opened, Sampled, Score
from train.models.distributed import gather_on_main
from train.rl.resampling import Group
from train.stages.run_dir import StageDir

Told = tuple[Group, bool]
"""A group, and whether it has a signal."""


@dataclass
class SharedGroups:
    """Which process holds which groups whole, by group id; methods are called in all processes."""

    _holders: dict[str, int] = field(default_factory=dict)

    def holds(self, group: Group) -> bool:
        """Tell whether a group is whole here."""
        return self._holder(group) == PartialState().process_index

    def tell(self, mine: Sequence[Told]) -> list[Told]:
        """Give what others need of the groups that this process played; return all processes'."""
        processes = PartialState()
        if processes.num_processes == 1:
            return list(mine)
        me, own, found = processes.process_index, iter(mine), list[Told]()
        told = [(me, [strip_ids(each) for each in group], speaks) for group, speaks in mine]
        for holder, group, speaks in gather_object(told):
            self._holders[group[0].group_id] = holder
            found.append(next(own) if holder == me else (group, speaks))
        return found

    def take_in(self, episodes: Iterable[Episode], *, size: int) -> list[Episode]:
        """Take in saved episodes of a step, whole where they are trained on.

        Args:
            episodes: Kept groups first, by their places.
            size: Groups that each process trains on.
        """
        processes, found = PartialState(), list[Episode]()
        places: dict[str, int] = {}
        for episode in episodes:
            place = places.setdefault(episode.group_id, len(places)) // size
            holder = place if place < processes.num_processes else 0  # one that was replaced
            self._holders[episode.group_id] = holder
            is_mine = holder == processes.process_index
            found.append(episode if is_mine else strip_ids(episode))
        return found

    def score(
        self, groups: Sequence[Group], score: Callable[[Group], list[Score]]
    ) -> list[list[Score]]:
        """Score each group where it is whole; return the scores of all."""
        mine = {group[0].group_id: score(group) for group in groups if self.holds(group)}
        found = {name: of for each in gather_object([mine]) for name, of in each.items()}
        return [found[group[0].group_id] for group in groups]

    def write(self, stage: StageDir, name: str, groups: Sequence[Group]) -> None:
        """Save the episodes of groups, those behind one another packed where they are whole."""
        me = PartialState().process_index
        runs = [(holder, list(same)) for holder, same in groupby(groups, key=self._holder)]
        mine = {at: pack_part(chain(*run)) for at, (holder, run) in enumerate(runs) if holder == me}
        parts = {at: part for each in gather_on_main(mine) for at, part in each.items()}
        stage.write_parts(name, (parts[at] for at in sorted(parts)))

    def bring(self, groups: Sequence[Group], *, first: int, size: int) -> list[Group]:
        """Return, whole, the groups from a place on that this process trains on.

        Args:
            groups: Of all processes, by their places.
            first: Place of this process's first one.
            size: Groups that each process trains on.
        """
        processes, here = PartialState(), groups[first : first + size]
        if processes.num_processes == 1:
            return list(here)
        me = processes.process_index
        leaving = {
            group[0].group_id: pack_part(group)
            for place, group in enumerate(groups)
            if self.holds(group) and place // size != me
        }
        come = {name: part for each in gather_object([leaving]) for name, part in each.items()}
        return [
            group if self.holds(group) else unpack_part(come[group[0].group_id], Episode)
            for group in here
        ]

    def forget(self, groups: Iterable[Group]) -> None:
        """Forget who holds groups of a step that is done with."""
        for group in groups:
            self._holders.pop(group[0].group_id, None)

    def _holder(self, group: Group) -> int:
        return self._holders.get(group[0].group_id, PartialState().process_index)


def strip_ids(episode: Episode) -> Episode:
    """Return an episode without token ids and log-probs; its metrics stay what they are.

    The ids behind a compaction stay: their number is one of those metrics.
    """
    events = tuple(map(_strip_event, episode.events))
    segment_ids = ((),) * len(episode.segment_ids)
    return episode.model_copy(update={"events": events, "segment_ids": segment_ids})


def _strip_event(event: Event) -> Event:
    match event:
        case Opened():
            return event.model_copy(update={"prefix_ids": ()})
        case Sampled():
            return event.model_copy(
                update={"token_ids": (), "sampling_logps": (), "closing_ids": ()}
            )
        case Observed():
            nothing = {"head_ids": (), "tail_ids": (), "separator_ids": ()}
            return event.model_copy(update={**nothing, "piece_ids": ()})
        case Evicted():
            stubs = dict.fromkeys(event.stub_ids, ())
            return event.model_copy(update={"prefix_ids": (), "stub_ids": stubs})
        case _:
            return event
