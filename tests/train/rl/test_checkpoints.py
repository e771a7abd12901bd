"""Only a whole checkpoint is one to resume from."""

import json
from pathlib import Path

from train.rl.checkpoints import find_last_checkpoint
from train.stages.run_dir import StageDir


def test_resuming_takes_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    stage = StageDir(tmp_path, "sft")
    assert find_last_checkpoint(stage) is None
    for step, whole in ((9, True), (10, True), (20, False)):
        folder = stage.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if whole:
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    assert find_last_checkpoint(stage) == stage.checkpoints / "checkpoint-10"
