"""`tightrope evaluate`: plays held-out tasks with every policy and prints the table.

    tightrope evaluate --config configs/tiny.yaml
    tightrope evaluate --config configs/tiny.yaml --policies sft runs/demo/grpo/adapter:greedy

A policy is `base`, `sft`, `grpo`, a script (`gold`, `careful`, `wasteful`, `noop`), the folder of
an adapter, a checkpoint or a base model, or a model's hub id. `-greedy` behind a name and `:greedy`
behind a folder take the likeliest token, once per task. Needed are the task set and the stages that
the policies come from, no others. `--resume` adds policies to those that were played before.
"""

import json
from datetime import datetime
from functools import partial
from pathlib import Path

from tightrope_cli.pipeline import print_results
from train.config.load import Command, Flag, parse_command
from train.config.policy_names import parse_entry
from train.stages.open_stage import open_stage, require
from train.stages.run_dir import Stage, StageDir, stage_dir
from train.stages.stage_log import keep_log


def main(argv: list[str]) -> int:
    """Run the stage; returns the exit code."""
    command = parse(argv)
    settings = command.settings
    inputs = needed(command)
    from train.rollouts.evaluate import (
        check_unchanged,
        evaluate,
        is_summarised,
        plan_evaluation,
    )
    from train.rollouts.runner import open_tasks

    now = datetime.now()
    wanted = plan_evaluation(settings, now=now)
    open_tasks(settings)  # refused before the first policy is loaded
    found = stage_dir(settings, "evaluate")
    if not command.clean:
        check_unchanged(settings, found, wanted)
    stage = open_stage(
        settings,
        "evaluate",
        resume=command.resume,
        clean=command.clean,
        reopen=not is_summarised(found, wanted),
        inputs=inputs,
        dry_run=command.dry_run,
    )
    if command.dry_run:
        for spec in wanted:
            print(
                f"{spec.name}: {settings.evaluate.num_tasks} tasks x {spec.num_samples} "
                f"({spec.sampling}): {spec.written}"
            )
        return 0
    keep_log(stage.path)
    if stage.is_done():
        summary = stage.read_json("summary.json")
    else:
        summary = evaluate(settings, stage, wanted, now=now)
        stage.finish({"policies": len(summary["policies"])}, output=stage.path / "summary.json")
    print_results(summary)
    return 0


def parse(argv: list[str]) -> Command:
    """Return the command; `--policies A B` is the setting `evaluate.policies`."""
    about = (
        "names as in evaluate.policies, folders of adapters, checkpoints and models, hub ids; "
        "NAME-greedy and FOLDER:greedy take the likeliest token"
    )
    parse_line = partial(
        parse_command,
        prog="tightrope evaluate",
        description="Evaluate policies on held-out tasks.",
        example="tightrope evaluate --config configs/tiny.yaml --policies runs/demo/grpo/adapter",
        flags=[Flag("--policies", about, nargs="+")],
    )
    command = parse_line(argv)
    if command.flags["policies"] is None:
        return command
    return parse_line([*argv, "--evaluate.policies", json.dumps(command.flags["policies"])])


def needed(command: Command) -> list[StageDir]:
    """Return the finished stages that the policies come from.

    Raises:
        UserError: One of them is missing or unfinished.
    """
    settings = command.settings
    entries = [parse_entry(text) for text in settings.evaluate.policies]
    names = {entry.policy for entry in entries}
    has_adapter = any((Path(name).expanduser() / "adapter_config.json").is_file() for name in names)
    on_warm_start = settings.model.kind == "tiny" and ("grpo" in names or has_adapter)
    stages: list[Stage] = ["tasks"]
    stages += ["sft"] if "sft" in names or on_warm_start else []
    stages += ["grpo"] if "grpo" in names else []
    return [require(settings, name, experiment=command.experiment) for name in stages]
