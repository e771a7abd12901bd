"""Which stages a cell of a study has, which of them are whole, and what a table has to name."""

import json
from pathlib import Path

from benchmarks.cells import ROOT, Cell, Place, find_missing
from train.stages.run_dir import dump_settings


def place_in(folder: Path) -> Place:
    return Place(folder, ROOT / "configs" / "tiny.yaml", shared=("--tasks.test=120",))


def finish(place: Place, cell: Cell, *stages: str, policies: bool = False) -> None:
    for name in stages:
        stage = place.stage(cell, name)  # type: ignore[arg-type]
        stage.path.mkdir(parents=True, exist_ok=True)
        settings = place.settings(cell, policies=policies)
        stage.config.write_text(dump_settings(settings), encoding="utf-8")
        stage.done.write_text("{}", encoding="utf-8")


def save(place: Place, cell: Cell, *, step: int, num_episodes: int, **more: float) -> None:
    stage = place.stage(cell, "grpo")
    folder = stage.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), "utf-8")
    stage.append_metrics({"step": step, "num_episodes": num_episodes, **more})


def test_a_cell_makes_what_its_policies_come_from() -> None:
    assert Cell("a", 0, policies=()).stages == ["demos", "sft"]
    assert Cell("a", 0, policies=("sft",)).stages == ["demos", "sft", "evaluate"]
    assert Cell("a", 0).stages == ["demos", "sft", "grpo", "evaluate"]
    assert Cell("a", 0, policies=("{last}",), warm_start="b").stages == ["grpo", "evaluate"]
    other = Cell("a", 0, policies=("{folder}/b/grpo/adapter",), warm_start="b")
    assert other.stages == ["evaluate"]


def test_what_is_not_whole_is_named(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    whole, begun = Cell("whole", 0), Cell("begun", 1, ("--grpo.resample=2",))
    finish(place, whole, "demos", "sft", "grpo", "evaluate", policies=True)
    finish(place, begun, "demos", "sft", "grpo")
    assert find_missing(place, [whole, begun]) == [begun]
    more = Cell("whole", 0, policies=("grpo", "sft"))
    assert find_missing(place, [more]) == [more]
    assert place.settings(begun).grpo.resample == 2 and place.settings(begun).run.seed == 1


def test_training_that_is_ended_early_is_whole_with_its_last_step_saved(tmp_path: Path) -> None:
    place, cell = place_in(tmp_path), Cell("a", 0, policies=("{last}",), max_episodes=100)
    save(place, cell, step=1, num_episodes=64)
    assert not place.is_whole(cell, "grpo")
    place.stage(cell, "grpo").append_metrics({"step": 2, "num_episodes": 64})
    assert place.count_played(cell) == 128 and not place.is_whole(cell, "grpo")
    save(place, cell, step=3, num_episodes=64)
    assert place.is_whole(cell, "grpo") and not place.is_made(cell)
    last = place.stage(cell, "grpo").checkpoints / "checkpoint-3"
    assert place.settings(cell, policies=True).evaluate.policies == [str(last)]


def test_seconds_of_a_warm_start_are_those_of_the_cell_that_made_it(tmp_path: Path) -> None:
    place, first = place_in(tmp_path), Cell("first", 0, policies=())
    finish(place, first, "sft")
    rows = [{"stage": "demos", "seconds": 9.0}, *[{"stage": "sft", "seconds": 2.0}] * 2]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "first" / "seconds.jsonl").write_text(text, encoding="utf-8")
    second = Cell("second", 0, warm_start="first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "sft").symlink_to(tmp_path / "first" / "sft")
    assert place.seconds(second, "sft") == 4.0
    assert place.seconds(second, "demos") is None
