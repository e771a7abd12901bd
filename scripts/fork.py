"""`tightrope fork RUN`: what rewriting the context was worth, turn by turn.

    tightrope fork runs/demo
    tightrope fork runs/demo --policies sft grpo careful --forks 200 --samples 8
    tightrope fork runs/seed0 runs/seed1 runs/seed2

Takes the episodes that `tightrope evaluate` saved, of the warm start and of GRPO if nothing else is
asked for, at turns where a rewrite was possible, and plays on from there with a rewrite now and
without one, the same policy both times. Says whether a policy rewrites where that pays, against
rules without learning. Writes RUN/fork (docs/fork.md); the same command goes on where it was ended.
Of several runs, such as training seeds, intervals over them too.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from envs.errors import UserError
from envs.files import to_json, write_whole
from train.config.load import Flag, parse_flags, settle
from train.config.settings import Settings
from train.stages.open_stage import open_stage, require
from train.stages.run_dir import stage_dir, stage_in
from train.stages.stage_log import keep_log

if TYPE_CHECKING:
    from train.forks.fork import Forked, ForkPlan

EXAMPLE = "tightrope fork runs/demo"


def main(argv: list[str]) -> int:
    """Fork what is asked for, print the tables; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope fork",
        description="Measure what rewriting the context is worth, by playing on from saved turns.",
        example=EXAMPLE,
        flags=[
            Flag("runs", "folders of runs that were evaluated, runs/NAME", kind=Path, nargs="+"),
            Flag("--policies", "files of evaluate/episodes [sft grpo]", nargs="+"),
            Flag("--forks", "turns of each policy, at most", kind=int, default=100, least=1),
            Flag("--samples", "branches with a rewrite, and without", kind=int, default=4, least=1),
            Flag("--fill", "share of the window that is filled, at least", kind=float, default=0.0),
            Flag("--clean", "delete what was forked before", kind=bool),
        ],
    )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # a launcher sets it
        remedy = "start it without a launcher"
        raise UserError("tightrope fork works in one process", remedy=remedy)
    from train.forks.fork import ForkPlan, pool
    from train.models.distributed import joined

    plan = ForkPlan(flags["forks"], flags["samples"], flags["fill"])
    runs = list(dict.fromkeys(flags["runs"]))
    found: list[Forked] = []
    with joined(world_size=1):
        for run in runs:
            forked = fork_run(run, flags["policies"], plan, clean=flags["clean"])
            found.append(forked)
            show(forked.summary, run)
    if len(runs) > 1:
        pooled = {"schema_version": 1, "runs": list(map(str, runs)), **pool(found)}
        path = runs[0] / "fork" / "over_runs.json"
        write_whole(path, to_json(pooled, indent=2) + "\n")
        show_pooled(pooled)
        print(path)
    return 0


def fork_run(run: Path, names: Sequence[str] | None, plan: "ForkPlan", *, clean: bool) -> "Forked":
    """Fork the episodes of one run.

    Raises:
        UserError: It was not evaluated, or its episodes cannot be forked.
    """
    from train.forks.fork import check_forked, find_policies, fork

    settings, now = read_settings(run), datetime.now()
    evaluated = require(settings, "evaluate", experiment=f"--config {run}/evaluate/config.yaml")
    tasks = require(settings, "tasks", experiment=f"--config {run}/evaluate/config.yaml")
    specs = find_policies(settings, evaluated, names, now=now)
    if not clean:
        check_forked(settings, evaluated, stage_dir(settings, "fork"), specs, plan)
    stage = open_stage(settings, "fork", resume=not clean, clean=clean, reopen=True, inputs=[tasks])
    keep_log(stage.path)
    forked = fork(settings, evaluated, stage, specs, plan, now=now)
    stage.finish({"policies": len(specs)}, output=stage.path / "summary.json")
    return forked


def read_settings(run: Path) -> Settings:
    """Return the settings of a run's evaluation, wherever its folder lies today.

    Raises:
        UserError: There is no such run, or it was not evaluated.
    """
    run = run.resolve() if run.name in ("", "..") else run
    evaluated = stage_in(run, "evaluate")
    if not evaluated.config.is_file():
        remedy = f"name the folder of a run that `tightrope evaluate` has played: {EXAMPLE}"
        raise UserError(f"{evaluated.config} is missing", got=str(run), remedy=remedy)
    data = evaluated.read_config()
    data["run"] = {**data.get("run", {}), "dir": str(run.parent), "name": run.name}
    return settle(data, str(evaluated.config), ())


def show(summary: Mapping[str, Any], run: Path) -> None:
    """Print what the forks of one run amount to."""
    columns = "policy|rewritten|forks, tasks|value of a rewrite|where it rewrites|elsewhere|timing"
    table = Table(*columns.split("|"), title=f"{run}: value of rewriting now, 95 % over tasks")
    for row in summary["policies"]:
        table.add_row(
            row["name"],
            f"{row['num_rewritten']:,} of {row['num_possible']:,}",
            f"{row['num_forks']}, {row['num_tasks']}",
            *(_number(row[name]) for name in ("value", "where_rewrites", "elsewhere", "timing")),
        )
    _print(table)
    for row in summary["policies"]:
        if row["num_dropped"]:
            why = "no rewrite was carried out, or the machine failed"
            print(f"{row['name']}: {row['num_dropped']} further forks have no value: {why}")
        if row["num_forks"]:
            _show_rules(row)
            _show_bins(row)
    for each in summary["comparisons"]:
        gain = _number(each["gain_difference"], digits=3)
        said = f"{_number(each['timing_difference'])}, gain {gain}"
        print(f"{each['second']} less {each['first']}: timing {said}")
    print(run / "fork" / "summary.json")


def show_pooled(pooled: Mapping[str, Any]) -> None:
    """Print what the forks of several runs amount to, over them."""
    columns = "policy|runs|forks|where it rewrites|elsewhere|timing|gain"
    table = Table(*columns.split("|"), title="all runs, 95 % over them and over tasks")
    for row in pooled["policies"]:
        numbers = [_number(row[name]) for name in ("where", "elsewhere", "timing")]
        numbers.append(_number(row["gain"], digits=3))
        table.add_row(row["name"], str(row["num_seeds"]), str(row["num_forks"]), *numbers)
    _print(table)
    for each in pooled["comparisons"]:
        gain = _number(each["gain_difference"], digits=3)
        said = f"{_number(each['timing_difference'])}, gain {gain}"
        print(f"{each['second']} less {each['first']}: timing {said}")


def _show_rules(row: Mapping[str, Any]) -> None:
    columns = "rule|rewrites at|timing|gain per turn|gain of the policy above it"
    title = f"{row['name']}, and rules without learning on the same turns"
    table = Table(*columns.split("|"), title=title)
    for each in row["rules"]:
        above = each.get("learned_minus")
        table.add_row(
            each["rule"] if each["tokens"] is None else f"{each['rule']} {each['tokens']:,}",
            _percent(each["frequency"]),
            _number(each["timing"]),
            _number(each["gain"], digits=3),
            _number(above["gain"], digits=3) if above else "",
        )
    _print(table)


def _show_bins(row: Mapping[str, Any]) -> None:
    columns = "turns|forks|rewritten|value of a rewrite"
    table = Table(*columns.split("|"), title=f"{row['name']}: where a rewrite is worth what")
    rows = [(_name_bin("fill", each), each) for each in row["by_fill"]]
    rows += [(_name_bin("turns left", each), each) for each in row["by_turns_left"]]
    rows += [
        ("window needs a rewrite" if each["from"] else "window needs none", each)
        for each in row["by_needs_rewrite"]
    ]
    rows += [(f"rewritten by {kind}", each) for kind, each in row["by_kind"].items()]
    for name, each in rows:
        frequency = _percent(each["frequency"])
        table.add_row(name, str(each["num_forks"]), frequency, _number(each["value"]))
    _print(table)


def _name_bin(what: str, row: Mapping[str, Any]) -> str:
    if row["below"] is None:
        return f"{what} from {row['from']:g}"
    return f"{what} {row['from']:g} to below {row['below']:g}"


def _percent(estimate: Mapping[str, Any]) -> str:
    return "-" if estimate["value"] is None else f"{estimate['value']:.0%}"


def _number(estimate: Mapping[str, Any], *, digits: int = 2) -> str:
    if estimate["value"] is None:
        return "-"
    numbers = (estimate["value"], *estimate["ci95"])
    value, low, high = (
        "-" if each is None else f"{round(each, digits) + 0.0:+.{digits}f}" for each in numbers
    )
    return f"{value} [{low}, {high}]"


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 132).print(table)
