"""Arms play equally many episodes; what is missing is named, and what was made is judged."""

from pathlib import Path

import pytest

from benchmarks.cells import ROOT, Place
from benchmarks.silent_groups import describe, list_cells
from tests.benchmarks.test_cells import finish, save
from tests.rewards.episodes import make_episode


def place_in(folder: Path) -> Place:
    return Place(folder, ROOT / "configs" / "tiny.yaml", ("--grpo.max_steps=4",))


def test_arms_play_as_many_episodes_as_the_plain_one(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    cells = {cell.name: cell for cell in list_cells(place, [0, 1], has_warm_start=False)}
    assert len(cells) == 2 + 3 * 2 + 2
    grpo = place.settings(cells["plain0"]).grpo
    most = 4 * grpo.groups_per_step * grpo.group_size
    assert cells["plain1"].max_episodes is None
    assert cells["resampled1"].max_episodes == cells["ratios0"].max_episodes == most
    assert place.settings(cells["stale0"]).rollouts.max_staleness == 1
    assert place.settings(cells["ratios0"]).grpo.updates_per_rollout == 2
    assert all(place.settings(cell) for cell in cells.values())


@pytest.mark.parametrize(("silent", "is_fine"), [(0.2, True), (0.3, False)])
def test_the_groups_that_are_trained_on_are_judged(
    silent: float, is_fine: bool, tmp_path: Path
) -> None:
    place = place_in(tmp_path)
    cells = list_cells(place, [0], has_warm_start=True)
    for cell in cells:
        for step in range(1, 5):
            share = 0.7 if cell.name == "plain0" else silent
            save(place, cell, step=step, num_episodes=64, share_groups_without_signal=share)
        finish(place, cell, "grpo", "evaluate", policies=True)
        place.stage(cell, "evaluate").write_episodes("adapter", [make_episode()])
    text, found = describe(place, cells, [0])
    assert found == is_fine and "Missing: none." in text
    assert "| plain | 1 | 4 | 256 | 70% | 70% |" in text
    assert f"| resampled | 1 | 4 | 256 | {silent:.0%} |" in text
    assert "| 1 to 1 | 0.00 / - / 70% |" in text
    place.stage(cells[-1], "grpo").done.unlink()
    text, found = describe(place, cells, [0])
    assert not found and "Missing: curriculum0." in text
