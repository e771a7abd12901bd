"""`tightrope rescore RUN`: scores the saved episodes of a run's GRPO again, offline.

    tightrope rescore runs/demo
    tightrope rescore runs/demo --reward.advantage zscore --reward.cost_weight 0.3

Without a change the scores are those of the training, byte for byte, and the command says so, also
where a resume went on with another reward: the run notes which one scored which step. With a change
it shows beside them what the other reward would have paid for the same episodes. Only `reward`
and `grpo.overlong` may differ: all else has decided what was played. Writes RUN/rescored: scores
and summary.json. Nothing in the run changes.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from envs.errors import UserError
from envs.files import read_rows, write_whole
from train.config.load import Flag, parse_flags, settle, split_overrides
from train.config.settings import Settings
from train.rl.rescoring import rescore
from train.rl.scoring import describe_reward
from train.stages.run_dir import StageDir, stage_in

ROWS = {
    "share_groups_without_signal": ("groups without signal", ".1%"),
    "advantage_abs": ("mean size of an advantage", ".4f"),
    "share_clamped": ("solvers lifted to the floor", ".1%"),
    "largest_group_sum": ("largest sum of a group", ".1e"),
}


def main(argv: list[str]) -> int:
    """Score again, print both rewards side by side; returns the exit code."""
    rest, overrides = split_overrides(argv)
    flags = parse_flags(
        rest,
        prog="tightrope rescore",
        description="Score saved training episodes again: as before, or with --reward.NAME VALUE.",
        example="tightrope rescore runs/demo --reward.advantage zscore",
        flags=[
            Flag("run", "folder of a run, runs/NAME", kind=Path),
            Flag("--out", "folder for scores and summary.json [RUN/rescored]", kind=Path),
        ],
    )
    stage = stage_in(flags["run"], "grpo")
    settings = read_settings(stage, overrides)
    out = open_out(stage, flags["out"] or flags["run"] / "rescored")
    summary = rescore(stage, settings, out)
    rewards = [{"step": step, **describe_reward(each)} for step, each in settings.items()]
    text = json.dumps({"schema_version": 2, "rewards": rewards, **summary}, indent=2)
    write_whole(out.path / "summary.json", text + "\n")
    show(summary)
    print(out.path)
    return 0


def read_settings(stage: StageDir, overrides: list[str]) -> dict[int, Settings]:
    """Return the settings of the run with another reward, by the step from which on they hold.

    Raises:
        UserError: There is no such run, or an override is no part of the reward.
    """
    names = overrides[::2]
    other = [
        name for name in names if not name.startswith("--reward.") and name != "--grpo.overlong"
    ]
    if other:
        remedy = "leave it out: it decided what was played, which cannot be changed afterwards"
        raise UserError("this is no part of the reward", got=", ".join(other), remedy=remedy)
    if not stage.config.is_file():
        remedy = "name the folder of a run that has trained: runs/NAME"
        raise UserError(f"{stage.config} is missing", got=str(stage.path.parent), remedy=remedy)
    data = stage.read_config()
    noted = read_rows(stage.rewards) or [{"step": 1}]
    return {
        row["step"]: settle(_with_reward(data, row, overrides), str(stage.config), overrides)
        for row in noted
    }


def _with_reward(
    data: Mapping[str, Any], noted: Mapping[str, Any], overrides: list[str]
) -> dict[str, Any]:
    """Return the settings of a run with a reward that it noted; an older version noted none."""
    found = deepcopy(dict(data))
    reward = noted.get("reward") or found.get("reward", {})
    # for outcome_only cost is free, whatever its weight was
    free = {"cost_weight", "pressure"} if "outcome_only" in overrides else set()
    found["reward"] = {name: value for name, value in reward.items() if name not in free}
    if "overlong" in noted:
        found["grpo"]["overlong"] = noted["overlong"]
    return found


def open_out(stage: StageDir, folder: Path) -> StageDir:
    """Return an empty place for scores; those of an earlier call go.

    Raises:
        UserError: It is a stage's own folder.
    """
    out = StageDir(folder, "grpo")
    if out.metrics.exists() or folder.resolve() == stage.path.resolve():
        remedy = "name a folder of its own with --out"
        raise UserError("scores would replace those of a stage", got=str(folder), remedy=remedy)
    if out.scores.is_dir():
        if not (folder / "summary.json").exists():
            remedy = "name an empty folder with --out"
            raise UserError("this would be deleted", got=str(out.scores), remedy=remedy)
        shutil.rmtree(out.scores)
    return out


def show(summary: Mapping[str, Any]) -> None:
    """Print the numbers of the saved scores beside those of the new ones."""
    saved, now = summary["saved"], summary["now"]
    num = f"{summary['num_episodes']:,} episodes, {summary['num_views_rebuilt']:,} views rebuilt"
    table = Table("", "as saved", "now", title=num)
    for name, (title, form) in ROWS.items():
        table.add_row(
            title, "-" if saved is None else format(saved[name], form), f"{now[name]:{form}}"
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if saved is None:
        print("the run saved no scores: it is of an older version")
        return
    if num_steps := summary["num_steps_not_noted"]:
        print(
            f"{num_steps} steps are of an older version, which noted no reward: they are scored by "
            "the one that the run had next, or now"
        )
    num_files, equal = summary["num_files_with_scores"], summary["num_files_equal"]
    print(f"files of scores that are equal, byte for byte: {equal} of {num_files}")
    if equal < num_files and summary["correlation"] is not None:
        print(
            f"advantages: correlation {summary['correlation']:.3f}, "
            f"{summary['share_other_sign']:.1%} with the other sign"
        )
