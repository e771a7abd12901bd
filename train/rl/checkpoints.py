"""Checkpoints that are whole or not there, and the end of a run by signal.

Transformers writes a checkpoint file by file under its final name; a process killed in between
leaves a folder that looks like one. Here it is written beside and renamed when whole.
"""

import json
import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.models.weight_files import make_readable
from train.stages.run_dir import StageDir

_DRAFTS = ".part"


class WholeCheckpoints(Trainer):  # type: ignore[misc]
    """A trainer whose checkpoints appear under their name only when they are whole."""

    _writes_draft = False

    def _get_output_dir(self, trial: Any) -> str:
        folder: str = super()._get_output_dir(trial)
        return str(Path(folder) / _DRAFTS) if self._writes_draft else folder

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            make_readable(Path(output_dir or self.args.output_dir))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial))
        if self.args.should_save:
            shutil.rmtree(folder / _DRAFTS, ignore_errors=True)  # of a run that was killed
        self.accelerator.wait_for_everyone()
        self._writes_draft = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._writes_draft = False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / _DRAFTS / name).replace(folder / name)
            shutil.rmtree(folder / _DRAFTS)
            for old in find_whole_checkpoints(folder)[: -(self.args.save_total_limit or 1)]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """SIGTERM: finish the step, save a checkpoint, stop; `stopped` tells that it happened.

    With several processes one that was signalled stops all. A second signal ends the process.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._signalled = False

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Take the signal over."""
        signal.signal(signal.SIGTERM, self._note)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save and stop if any process was signalled."""
        signalled = torch.tensor(float(self._signalled), device=args.device)
        if reduce(signalled, reduction="sum").item() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Give the signal back."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signalled = True
        signal.signal(number, signal.SIG_DFL)


def rewind_to_checkpoint(stage: StageDir, *, resume: bool) -> str | None:
    """Return the checkpoint that a resumed run goes on with, and forget what came after it.

    To be called in all processes: the main one deletes.
    """
    found = find_last_checkpoint(stage) if resume else None
    stage.rewind(find_last_step(stage, resume=resume))
    PartialState().wait_for_everyone()
    return str(found) if found else None


def find_last_step(stage: StageDir, *, resume: bool) -> int:
    """Return the step after which a run goes on."""
    found = find_last_checkpoint(stage) if resume else None
    return read_step(found) if found else 0


def find_last_checkpoint(stage: StageDir) -> Path | None:
    """Return the newest whole checkpoint, or None to start from the beginning."""
    found = find_whole_checkpoints(stage.checkpoints)
    return found[-1] if found else None


def find_whole_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first."""
    found = [p for p in folder.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
    return sorted(found, key=read_step)


def read_step(checkpoint: Path) -> int:
    """Return the number of optimizer steps behind a checkpoint."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return int(state["global_step"])
