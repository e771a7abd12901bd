"""Dev tasks during GRPO: which step's adapter was best, and the guard against a falling pass rate.

Every `grpo.evaluate_every` steps, and before the first, the policy plays the dev split four times,
with the same windows and seeds each time. Best is the highest pass rate, of equal ones the
cheapest; its adapter becomes the stage's result, that of step 0 too: where nothing was better, GRPO
brought nothing. The guard compares with the evaluation that solved
most: a real drop halves the weight of cost, two in a row end the run (`rewards/cost_weight.py`).
On 48 tasks it sees a fall from 55 to 35 % in 99 of 100 evaluations. Where nothing falls it halves
the weight at least once in 17 % of runs with 5 evaluations and 41 % of those with 9, and stops 2 %
and 8 % of them (simulated): the evaluation that solved most was lucky. An evaluation in which the
sandbox failed for half of the tasks counts for nothing.

Files, rewound on resume to the checkpoint: `dev.jsonl`, `episodes/dev_STEP.jsonl`, `dev/STEP/` (the
adapter).
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from envs.files import join_lines, read_rows, to_json, write_whole
from envs.records import Episode
from rewards.cost import billed_tokens
from rewards.cost_weight import NUM_DROPS_TO_STOP, paired_drop
from rewards.intervals import group_by_task
from rewards.outcome import is_scorable, is_solved
from train.models.distributed import share
from train.rl.trackers import Report
from train.rollouts.runner import EpisodeRequest
from train.stages.run_dir import StageDir
from train.stages.stage_log import say

DEV_SAMPLES = 4  # once per task says little: 0.54, 0.52 and 0.52 turned out 0.43, 0.48 and 0.40


class DevEvaluation(TrainerCallback):  # type: ignore[misc]
    """Evaluates on dev tasks while GRPO trains; goes on with what is in `stage`.

    Args:
        stage: Where rows, episodes and adapters go.
        requests: `DEV_SAMPLES` episodes per dev task, the same each time.
        every: Steps between two evaluations; the last step is evaluated too.
        play: Plays requests with the model in training, for the record of a step.
        save: Writes the adapter in training to a folder; called in all processes.
        on_drop: Called when the guard saw a real drop.
        report: Takes the rows for a tracker as well.
    """

    def __init__(
        self,
        stage: StageDir,
        *,
        requests: Sequence[EpisodeRequest],
        every: int,
        play: Callable[[Sequence[EpisodeRequest], int], list[Episode]],
        save: Callable[[Path], None],
        on_drop: Callable[[], None],
        report: Report = lambda kind, row: None,
    ) -> None:
        self._stage, self._requests, self._every = stage, requests, every
        self._play, self._save, self._on_drop, self._report = play, save, on_drop, report
        self.rows = read_dev_rows(stage)
        passed = select_passed(self.rows)
        self._good: list[Episode] = []
        if passed:
            top = max(passed, key=lambda row: (row["pass_rate"], row["step"]))  # as `_evaluate`
            self._good = stage.read_episodes(_name(top["step"]))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Evaluate the policy that GRPO starts from, unless an interrupted run did."""
        del args
        if not self.rows:
            self._evaluate(state.global_step, control)
        control.should_training_stop = control.should_training_stop or self.stopped

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Evaluate if it is time."""
        del args
        if state.global_step % self._every == 0 or state.global_step >= state.max_steps:
            self._evaluate(state.global_step, control)

    @property
    def stopped(self) -> bool:
        """Whether the guard has ended the run: drops in a row."""
        last = self.rows[-NUM_DROPS_TO_STOP:]
        return len(last) == NUM_DROPS_TO_STOP and all(row["flagged"] for row in last)

    def copy_best(self, folder: Path) -> int:
        """Copy the best adapter, the stage's result, to `folder`; returns its step."""
        step = find_best_step(self.rows)
        if self._stage.is_main:
            shutil.copytree(self._folder(step), folder, dirs_exist_ok=True)
        return step

    def _evaluate(self, step: int, control: TrainerControl) -> None:
        episodes = share(self._requests, lambda mine: self._play(mine, step))
        row = make_evaluation_row(step, episodes, good=self._good)
        top = max((each["pass_rate"] for each in select_passed(self.rows)), default=0.0)
        self.rows.append(row)
        self._save(self._folder(step))
        if row["flagged"]:
            self._on_drop()
            control.should_training_stop = control.should_training_stop or self.stopped
        elif select_passed([row]) and row["pass_rate"] >= top:
            self._good = episodes
        if self._stage.is_main:
            self._stage.write_episodes(_name(step), episodes)
            write_whole(self._stage.dev_rows, join_lines(map(to_json, self.rows)))
            self._report("eval", row)
            say(describe(row, stopped=self.stopped))

    def on_save(self, *_: Any, **__: Any) -> None:
        """Delete adapters that cannot become the best; not before: a resume may need them."""
        kept = {self._folder(each["step"]) for each in select_candidates(self.rows)}
        for folder in (self._stage.path / "dev").glob("*") if self._stage.is_main else ():
            if folder not in kept:
                shutil.rmtree(folder)

    def _folder(self, step: int) -> Path:
        return self._stage.path / "dev" / f"{step:05d}"


def read_dev_rows(stage: StageDir) -> list[dict[str, Any]]:
    """Return what was found so far, a row per evaluation."""
    return read_rows(stage.dev_rows)


def make_evaluation_row(
    step: int, episodes: Sequence[Episode], *, good: Sequence[Episode]
) -> dict[str, Any]:
    """Return one row of `dev.jsonl`; `good` is the last evaluation that the guard passed."""
    scored = [episode for episode in episodes if is_scorable(episode)]
    num_solved = sum(map(is_solved, scored))
    rate = num_solved / max(1, len(scored))
    drop = paired_drop(good, scored)
    return {
        "step": step,
        "num_episodes": len(scored),
        "num_unscorable": len(episodes) - len(scored),
        "pass_rate": rate,
        "standard_error": _standard_error(scored),
        "tokens_per_solved": sum(map(billed_tokens, scored)) / num_solved if num_solved else None,
        "drop": drop.mean,
        "drop_standard_error": drop.standard_error,
        "flagged": drop.is_real and 2 * len(scored) >= len(episodes),
    }


def _standard_error(scored: Sequence[Episode]) -> float:
    """Return that of the pass rate over tasks: samples of one task resemble each other."""
    rates = [fmean(map(is_solved, group)) for group in group_by_task(scored).values()]
    return stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 else 0.0


def select_passed(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that say something and that the guard did not flag."""
    return [r for r in rows if not r["flagged"] and r["num_episodes"] >= r["num_unscorable"]]


def select_candidates(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the passed rows with the highest pass rate; the first row if none passed."""
    passed = select_passed(rows) or list(rows[:1])
    top = max(row["pass_rate"] for row in passed)
    return [row for row in passed if row["pass_rate"] == top]


def find_best_step(rows: Sequence[dict[str, Any]]) -> int:
    """Return the step of the cheapest candidate, the later one of two that cost the same."""
    cheapest = min(
        select_candidates(rows),
        key=lambda row: (row["tokens_per_solved"] or math.inf, -row["step"]),
    )
    return int(cheapest["step"])


def describe(row: dict[str, Any], *, stopped: bool) -> str:
    """Return one line about an evaluation."""
    cost = row["tokens_per_solved"]
    text = f"dev tasks at step {row['step']}: pass {row['pass_rate']:.2f}, tokens/solved " + (
        f"{cost:.0f}" if cost is not None else "-"
    )
    if row["flagged"]:
        text += f"; solves {row['drop']:.0%} less than before: the weight of the cost is halved"
    return text + ("; a second drop in a row ends the run" if stopped else "")


def _name(step: int) -> str:
    return f"dev_{step:05d}"
