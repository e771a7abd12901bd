"""What other processes need of an episode is there without its ids; a step's file is in parts."""

import pickle
from pathlib import Path

import pytest

from envs.habits.options import ScriptOptions
from envs.records import Episode
from rewards.advantages import score_group
from rewards.metrics import step_metrics
from rewards.solves import count_solves
from tests.envs.world import SOLVED, play
from train.rl.shared_groups import SharedGroups, strip_ids
from train.stages.run_dir import StageDir

EVICTING = ScriptOptions(find="file", rewrite="evict", eager=True)
COMPACTING = ScriptOptions(rewrite="compact", note=True)


def group_of(number: int) -> list[Episode]:
    scripts = [("careful", EVICTING), ("careful", COMPACTING), ("wasteful", None), ("gold", None)]
    return [
        play(name, options=options).model_copy(
            update={"group_id": f"grpo/0/{number}", "sample_index": index, "outcome": SOLVED}
        )
        for index, (name, options) in enumerate(scripts)
    ]


def test_metrics_do_not_need_ids_and_they_are_most_of_an_episode() -> None:
    group = group_of(0)
    kinds = {event.kind for episode in group for event in episode.events}
    assert {"evicted", "compacted", "noted", "observed"} <= kinds
    bare = [strip_ids(episode) for episode in group]
    scores = [score_group(group)]
    assert step_metrics([bare], scores) == step_metrics([group], scores)
    assert count_solves(bare) == count_solves(group)
    assert not any(any(episode.segment_ids) for episode in bare)
    assert len(pickle.dumps(bare)) < 0.7 * len(pickle.dumps(group))


def test_parts_make_the_file_of_a_step(tmp_path: Path) -> None:
    stage, shared = StageDir(tmp_path, "grpo"), SharedGroups()
    groups = [group_of(0), group_of(1)]
    shared.write(stage, "step_00001", groups)
    saved = stage.read_episodes(1)
    assert saved == [episode for group in groups for episode in group]
    assert shared.take_in(saved, size=2) == saved, "one process holds all"
    assert shared.bring(groups, first=0, size=2) == groups


@pytest.mark.parametrize("size", [1, 2])
def test_all_get_the_scores_of_all(size: int) -> None:
    groups = [group_of(number) for number in range(size)]
    shared = SharedGroups()
    assert shared.tell([(group, True) for group in groups]) == [(group, True) for group in groups]
    assert shared.score(groups, score_group) == [score_group(group) for group in groups]
