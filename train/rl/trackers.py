"""Sends each step's numbers to the experiment tracker that `run.report_to` names, too.

`metrics.jsonl` has everything in any case. Names are the field's where it has one (`FIELD_NAMES`),
as `train/NAME`; of evaluations on dev tasks `eval/NAME`. What is no finite number is left out.

Only the main process reports. A resumed stage goes on in the same run of the tracker, whose name is
in `tracker.json`. Steps behind the checkpoint are played and sent again: TensorBoard hides the
first values, the others show both.

Tests: tests/train/rl/test_trackers.py.
"""

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from envs.errors import UserError
from envs.files import to_json, write_whole
from train.config.settings import Settings, TrackerName
from train.stages.run_dir import StageDir
from train.stages.stage_log import say

Row = Mapping[str, Any]
Report = Callable[[Literal["train", "eval"], Row], None]

PROJECT = "tightrope"
FIELD_NAMES = {
    "outcome": "reward",  # TRL's names
    "pass_rate": "rewards/solved/mean",
    "cost": "rewards/cost/mean",
    "sampled_tokens": "completions/mean_length",
    "share_groups_without_signal": "frac_reward_zero_std",
    "share_malformed_calls": "tools/failure_frequency",
    "turns_per_episode": "num_turns",  # prime-rl's
    "num_unscorable": "errored_rollouts",
    "seconds/rollout": "time/rollout",
    "seconds/learn": "time/learn",
}


@dataclass(frozen=True)
class _Tracker:
    """A tracker's run: takes a step and its numbers, and is closed; `place` is where to look."""

    send: Callable[[int, dict[str, float]], None]
    close: Callable[[], None]
    place: str


def check_tracker(name: TrackerName) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        UserError: It is not.
    """
    if name != "none" and find_spec(name) is None:
        raise UserError(
            f"run.report_to: {name} is not installed",
            remedy=f"pip install {name}, or use run.report_to: none; metrics.jsonl has all of it",
        )


@contextmanager
def open_tracker(settings: Settings, stage: StageDir, *, step: int) -> Iterator[Report]:
    """Yield what takes the rows of a stage that goes on after `step` steps.

    Raises:
        UserError: The tracker does not open, such as one that wants a login first.
    """
    name = settings.run.report_to
    if name == "none" or not stage.is_main:
        yield lambda kind, row: None
        return
    try:
        tracker = _OPEN[name](settings, stage, step)
    except Exception as error:  # trackers have no error type in common
        raise UserError(
            f"run.report_to: {name} does not start",
            got=" ".join(str(error).split())[:300],
            remedy="see its own documentation, or use run.report_to: none",
        ) from error
    say(f"metrics also go to {name}: {tracker.place}")
    with _reporting(name, tracker) as report:
        yield report


@contextmanager
def _reporting(name: str, tracker: _Tracker) -> Iterator[Report]:
    """Yield what sends rows until the tracker fails: that ends no run."""
    works = True

    def attempt(act: Callable[[], None]) -> None:
        nonlocal works
        try:
            act()
        except Exception as error:  # as above
            works = False
            say(f"{name} failed, metrics go to metrics.jsonl only: {error}")

    def report(kind: Literal["train", "eval"], row: Row) -> None:
        if works:
            attempt(lambda: tracker.send(int(row["step"]), name_numbers(kind, row)))

    try:
        yield report
    finally:
        if works:
            attempt(tracker.close)


def name_numbers(kind: Literal["train", "eval"], row: Row) -> dict[str, float]:
    """Return the finite numbers of a row under the names that a tracker shows."""
    return {
        f"{kind}/{FIELD_NAMES.get(name, name)}": float(value)
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }


def _open_tensorboard(settings: Settings, stage: StageDir, step: int) -> _Tracker:
    from torch.utils.tensorboard import SummaryWriter

    del settings
    folder = stage.path / "tensorboard"
    writer = SummaryWriter(str(folder), purge_step=step + 1)

    def send(number: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, number)
        writer.flush()

    return _Tracker(send, writer.close, f"tensorboard --logdir {folder}")


def _open_trackio(settings: Settings, stage: StageDir, step: int) -> _Tracker:
    import trackio

    del step
    run = trackio.init(
        PROJECT,
        name=_run_name(settings, stage),
        config=settings.model_dump(mode="json"),
        resume="allow",
        embed=False,
        auto_log_cpu=False,
    )
    return _Tracker(
        lambda number, numbers: run.log(numbers, step=number),
        run.finish,
        f"trackio show --project {PROJECT}",
    )


def _open_wandb(settings: Settings, stage: StageDir, step: int) -> _Tracker:
    import wandb

    del step
    name = _run_name(settings, stage)
    run = wandb.init(
        project=PROJECT,
        id=name,
        name=name,
        config=settings.model_dump(mode="json"),
        dir=str(stage.path),
        resume="allow",
    )
    run.define_metric("train/global_step")  # its own steps cannot go back to a checkpoint
    run.define_metric("*", step_metric="train/global_step")
    return _Tracker(
        lambda number, numbers: run.log({**numbers, "train/global_step": number}),
        run.finish,
        run.url or str(stage.path / "wandb"),
    )


_OPEN: dict[str, Callable[[Settings, StageDir, int], _Tracker]] = {
    "tensorboard": _open_tensorboard,
    "trackio": _open_trackio,
    "wandb": _open_wandb,
}


def _run_name(settings: Settings, stage: StageDir) -> str:
    """Return the name of the tracker's run: a stage made anew begins another one."""
    path = stage.path / "tracker.json"
    if not path.is_file():
        name = f"{settings.run.name}-{stage.stage}-{secrets.token_hex(3)}"
        write_whole(path, to_json({"run": name}) + "\n")
    return str(json.loads(path.read_text(encoding="utf-8"))["run"])
