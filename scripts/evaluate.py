"""`tightrope evaluate`: plays held-out tasks with every policy and prints the table.

    tightrope evaluate --config configs/tiny.yaml
    tightrope evaluate --tasks tasks/mine --policies gold ./my-model
    tightrope evaluate --config configs/tiny.yaml --policies sft runs/demo/grpo/adapter:greedy

A policy is `base`, `sft`, `grpo`, a script (`gold`, `careful`, `wasteful`, `noop`), the folder of
an adapter, a checkpoint or a base model, a model's hub id, or `endpoint:URL#MODEL`: a chat server
that speaks OpenAI's protocol, with the key in $TIGHTROPE_ENDPOINT_KEY (docs/endpoints.md).
`-greedy` behind a name and `:greedy` behind a folder or an endpoint take the likeliest token, once
per task. Needed are the task set and the stages that the policies come from, no others; without
--config a task set, scripts and models by path, on its test tasks or what it has instead.
`--resume` adds policies to those that were played before. Several processes share the episodes:

    accelerate launch --num_processes 8 scripts/main.py evaluate --config configs/qwen3b.yaml
"""

import json
import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from envs.errors import UserError
from envs.records import SPLITS
from envs.tasks.store import TaskStore
from tightrope_cli.pipeline import print_results
from train.config.load import TASKS, Command, Flag, parse_command
from train.config.policy_names import KEY_VARIABLE, parse_entry
from train.config.set_alone import describe_counting
from train.config.settings import Settings
from train.models.weight_files import read_object
from train.stages.open_stage import open_stage, require
from train.stages.run_dir import Stage, StageDir, stage_dir
from train.stages.stage_log import keep_log, say


def main(argv: list[str]) -> int:
    """Run the stage; returns the exit code."""
    command = parse(argv)
    inputs = needed(command)
    from train.models.distributed import find_longest_wait, joined

    world_size = int(os.environ.get("WORLD_SIZE", "1"))  # a launcher sets it
    wait = find_longest_wait(command.settings.rollouts)
    with joined(world_size=world_size, longest_wait=wait):
        return run(command, inputs)


def run(command: Command, inputs: Sequence[StageDir]) -> int:
    """Evaluate, together with the other processes if there are any; returns the exit code."""
    from accelerate import PartialState

    from train.models.distributed import of_main
    from train.rollouts.evaluate import (
        check_endpoints,
        check_unchanged,
        evaluate,
        is_summarised,
        plan_evaluation,
    )
    from train.rollouts.runner import open_tasks

    settings, now, processes = command.settings, datetime.now(), PartialState()
    is_main = processes.is_main_process
    wanted = plan_evaluation(settings, now=now)
    key = os.environ.get(KEY_VARIABLE)
    check_split(settings, open_tasks(settings)[0])  # refused before the first policy is loaded
    if command.config is None and is_main:
        say(describe_counting(settings))
    found = stage_dir(settings, "evaluate")
    if not command.dry_run and (command.clean or not is_summarised(found, wanted)):
        check_endpoints(wanted, key=key)
    if not command.clean:
        check_unchanged(settings, found, wanted)
    reopen = not is_summarised(found, wanted)
    processes.wait_for_everyone()  # until all have looked at what the main process may delete
    stage = open_stage(
        settings,
        "evaluate",
        resume=command.resume,
        clean=command.clean,
        reopen=reopen,
        is_main=is_main,
        inputs=inputs,
        dry_run=command.dry_run,
    )
    if command.dry_run:
        for spec in wanted if is_main else ():
            print(
                f"{spec.name}: {settings.evaluate.num_tasks} tasks x {spec.num_samples} "
                f"({spec.sampling}): {spec.written}"
            )
        return 0
    is_done = of_main(stage.is_done())  # which also waits until it is opened
    keep_log(stage.path, rank=processes.process_index)
    summary = {} if is_done else evaluate(settings, stage, wanted, now=now, key=key)
    if is_main:
        if is_done:
            summary = stage.read_json("summary.json")
        else:
            facts = {"policies": len(summary["policies"])}
            stage.finish(facts, output=stage.path / "summary.json")
        print_results(summary, split=settings.evaluate.split)
    return 0


def parse(argv: list[str]) -> Command:
    """Return the command; `--policies A B` is the setting `evaluate.policies`."""
    about = (
        "names as in evaluate.policies, folders of adapters, checkpoints and models, hub ids, "
        f"endpoint:URL#MODEL (key: ${KEY_VARIABLE}); NAME-greedy and FOLDER:greedy take the "
        "likeliest token"
    )
    parse_line = partial(
        parse_command,
        prog="tightrope evaluate",
        description="Evaluate policies on held-out tasks.",
        example="tightrope evaluate --config configs/tiny.yaml --policies runs/demo/grpo/adapter",
        flags=[Flag("--policies", about, nargs="+"), TASKS],
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
    if command.config is None:
        check_alone(settings)
        return [require(settings, "tasks", experiment=command.experiment)]
    entries = [parse_entry(text) for text in settings.evaluate.policies]
    names = {entry.policy for entry in entries}
    has_adapter = any((Path(name).expanduser() / "adapter_config.json").is_file() for name in names)
    on_warm_start = settings.model.kind == "tiny" and ("grpo" in names or has_adapter)
    stages: list[Stage] = ["tasks"]
    stages += ["sft"] if "sft" in names or on_warm_start else []
    stages += ["grpo"] if "grpo" in names else []
    return [require(settings, name, experiment=command.experiment) for name in stages]


def check_alone(settings: Settings) -> None:
    """Refuse policies that are of an experiment, where there is none.

    Raises:
        UserError: A name stands for weights of a run, or an adapter's base is not named.
    """
    for entry in map(parse_entry, settings.evaluate.policies):
        folder = Path(entry.policy).expanduser()
        if entry.kind == "of_the_run":
            remedy = "name the --config of its experiment, or the folder of its adapter or model"
            raise UserError("a policy of no experiment", got=entry.policy, remedy=remedy)
        config = folder / "adapter_config.json"
        if config.is_file() and settings.model.kind == "tiny":
            base = read_object(config).get("base_model_name_or_path")
            remedy = f"add --model.base {base or 'FOLDER'}, or the --config of its experiment"
            raise UserError("an adapter acts on a base", got=entry.policy, remedy=remedy)


def check_split(settings: Settings, store: TaskStore) -> None:
    """Refuse a split of which the set has no task.

    Raises:
        UserError: There is nothing to evaluate on.
    """
    split = settings.evaluate.split
    if not store.split(split):
        found = [each for each in SPLITS if store.split(each)]
        counts = ", ".join(f"{len(store.split(each))} {each}" for each in found) or "no task"
        remedy = f"--evaluate.split {found[-1] if found else 'dev'}, or build tasks of this split"
        got = f"{store.folder} has {counts}"
        raise UserError(f"no {split} task to evaluate on", got=got, remedy=remedy)
