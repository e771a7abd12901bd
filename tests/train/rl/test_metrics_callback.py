"""From a trainer's callbacks to the progress line."""

import io
import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from train.rl.metrics_callback import StepRecorder, fold_microbatches
from train.stages.progress import Progress
from train.stages.run_dir import StageDir


class Clock:
    """Seconds that pass only when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("resumed_at", [0, 450], ids=["fresh", "resumed"])
def test_the_time_left_of_a_resumed_run_is_that_of_its_own_steps(
    tmp_path: Path, resumed_at: int
) -> None:
    clock = Clock()
    progress = Progress("warm start", total=600, clock=clock, stream=io.StringIO())
    recorder = StepRecorder(StageDir(tmp_path, "sft"), progress, describe=lambda row: "")
    args, control = TrainingArguments(output_dir=str(tmp_path)), TrainerControl()
    state = TrainerState(global_step=resumed_at)
    clock.now = 5.0
    recorder.on_train_begin(args, state, control)
    assert progress.left_s() is None
    clock.now, state.global_step = 35.0, resumed_at + 5
    recorder.on_log(args, state, control, logs={"loss": 1.0})
    assert progress.left_s() == 6.0 * (600 - state.global_step)


def test_metrics_of_micro_batches_become_one_weighted_by_tokens() -> None:
    values = {"entropy": [1.0, 4.0, math.nan], "clip/high_max": [0.1, 0.3, math.nan]}
    values |= {"clip/low_min": [0.1, math.nan, 0.0], "none": [math.nan] * 3}
    found = fold_microbatches(values, [30, 10, 0])
    assert found == {"entropy": 1.75, "clip/high_max": 0.3, "clip/low_min": 0.0, "none": 0.0}
