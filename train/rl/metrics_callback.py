"""From TRL's trainers to the run directory: one metrics row per step, and progress lines."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.rl.trackers import Report
from train.stages.progress import Progress
from train.stages.run_dir import StageDir
from train.stages.stage_log import say

Row = dict[str, Any]
FindAlarms = Callable[[Sequence[Row]], Mapping[str, str]]


class StepRecorder(TrainerCallback):
    """Appends what the trainer logs to `metrics.jsonl` and moves the progress line on.

    Args:
        stage: Where rows go; only the main process writes.
        progress: The line on the terminal.
        describe: Makes a short note of one row.
        print_rows: Also print each row's note as a line of its own.
        report: Takes rows for a tracker as well.
        find_alarms: Says by name what in the rows so far is alarming; recorded with the row.
    """

    def __init__(
        self,
        stage: StageDir,
        progress: Progress,
        *,
        describe: Callable[[dict[str, Any]], str],
        print_rows: bool = False,
        report: Report = lambda kind, row: None,
        find_alarms: FindAlarms = lambda rows: {},
    ) -> None:
        self._stage, self._progress = stage, progress
        self._describe, self._print_rows = describe, print_rows
        self._report, self._find_alarms = report, find_alarms
        self._rows: list[Row] = []
        self._ringing: set[str] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say where an interrupted run goes on."""
        del args, control
        self._progress.update(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record one row; the trainer's closing summary is not a step."""
        del args, control, kwargs
        if not logs or "train_runtime" in logs:
            return
        row = {"step": state.global_step, **logs}
        self._rows = self._rows or self._stage.read_metrics()  # after a resume
        self._rows.append(row)
        alarms = self._find_alarms(self._rows)
        if alarms:
            row["alarms"] = sorted(alarms)
        self._stage.append_metrics(row)
        self._report("train", row)
        note = self._describe(row)
        self._progress.update(state.global_step, note=note)
        if self._print_rows and self._stage.is_main:
            self._progress.report()
        for name in alarms.keys() - self._ringing if self._stage.is_main else ():
            say(f"ALARM at step {state.global_step}: {alarms[name]}")
        self._ringing = set(alarms)


def fold_microbatches(
    values: Mapping[str, Sequence[float]], weights: Sequence[float]
) -> dict[str, float]:
    """Return one value per step of metrics per micro-batch: the mean, or of extremes the extreme.

    Args:
        values: By name one for each micro-batch; NaN of those without tokens.
        weights: Tokens with loss of each micro-batch, on all processes.
    """
    folded = {}
    for name, found in values.items():
        pairs = [(v, w) for v, w in zip(found, weights, strict=True) if not math.isnan(v)]
        if name.endswith(("_min", "_max")):
            extreme = min if name.endswith("_min") else max
            folded[name] = extreme((v for v, _ in pairs), default=math.nan)
        else:
            folded[name] = sum(v * w for v, w in pairs) / max(1, sum(w for _, w in pairs))
    return folded
