"""From a trainer's callbacks to the progress line."""

import io
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from train.rl.metrics_callback import StepRecorder
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
