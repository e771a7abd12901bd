"""GRPO: groups of episodes, one score and one advantage per episode, all its segments trained.

    accelerate launch train/grpo.py --config configs/tiny.yaml --grpo.learning_rate 2e-6

Goes on with the SFT adapter (or puts a fresh one on the tiny model's base), refuses a warm start
that cannot be improved by RL (`--force` overrides), and writes every episode and one metrics row
per step to runs/NAME/grpo.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: look from the repository root, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import json
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

from envs.errors import UserError
from train.config.conflicts import check_groups
from train.config.load import Command, parse_command
from train.models.hub import shape_folder, switch_telemetry_off
from train.stages.ending import COMMAND_VARIABLE, end_with_parent, run_main
from train.stages.output import keep_log, say

if TYPE_CHECKING:
    from train.config.settings import Settings
    from train.rl.dev_evaluation import DevWatch
    from train.rl.step_rollouts import StepRollouts
    from train.rollouts.runner import Arena
    from train.stages.run_dir import StageDir

EXAMPLE = "accelerate launch train/grpo.py --config configs/tiny.yaml --grpo.learning_rate 2e-6"
GATE_PASS_RATE = (0.20, 0.80)  # below: no group has signal; above: nothing is left to learn
GATE_REWRITE_SHARE = 0.05  # of forced-window episodes must evict, and as many compact


def main(argv: list[str]) -> int:
    """Run the stage; heavy imports wait until the command line is known to be right."""
    command = parse_command(
        argv,
        prog="accelerate launch train/grpo.py",
        description="Multi-segment GRPO with LoRA.",
        example=EXAMPLE,
    )
    from train.stages.opening import Opening
    from train.stages.run_dir import open_stage, require

    world_size = int(os.environ.get("WORLD_SIZE", "1"))  # the launcher sets it
    grpo = command.settings.grpo
    check_groups(grpo.groups_per_step, grpo.group_size, world_size)
    settings = command.settings
    if command.dry_run and shape_folder(settings.model):
        from train.recipes.dry_run import show_shape

        return show_shape(command, stage="grpo")
    opening = Opening(is_dry=command.dry_run)
    inputs = [require(settings, "tasks", experiment=command.experiment)]
    with opening.check():
        require(settings, "demos", experiment=command.experiment)  # holds the run's tokenizer
    with opening.check():
        if settings.grpo.start_from == "sft":
            inputs.append(require(settings, "sft", experiment=command.experiment))
            check_gate(inputs[-1], force=command.force)
    from train.models.distributed import join
    from train.models.model import check_base

    check_base(settings)
    processes = join(world_size=world_size)
    with opening.check():
        stage = open_stage(
            settings,
            "grpo",
            resume=command.resume,
            clean=command.clean,
            is_main=processes.is_main_process,
            inputs=inputs,
            dry_run=command.dry_run,
        )
    if command.dry_run:
        from train.recipes.dry_run import show

        return show(
            command, stage="grpo", opening=opening, model_on=starting_model, arguments=trainer_args
        )
    processes.wait_for_everyone()  # the main process may have deleted the last run
    keep_log(stage.path, rank=processes.process_index, stdout=True)
    if not stage.is_done():
        train(command, stage)
    return 0


def check_gate(sft: "StageDir", *, force: bool) -> None:
    """Refuse a warm start that RL cannot use; with `force` say so and go on.

    Raises:
        UserError: The pass rate leaves no signal, or too few forced episodes rewrite their context.
    """
    facts = json.loads(sft.done.read_text(encoding="utf-8"))
    low, high = GATE_PASS_RATE
    problems = []
    if not low <= facts["dev_pass_rate"] <= high:
        problems.append(f"dev pass rate {facts['dev_pass_rate']:.0%}, not {low:.0%} to {high:.0%}")
    for name in ("compact", "evict"):
        share = facts[f"forced_{name}_share"]
        if facts["dev_forced"] and share < GATE_REWRITE_SHARE:
            problems.append(f"{share:.0%} of {facts['dev_forced']} forced episodes {name}")
    if not problems:
        return
    text = "; ".join(problems)
    if not force:
        raise UserError(
            "the warm start is outside the gate for GRPO",
            got=text,
            remedy=(
                "train it longer or shorter (sft.epochs), make more demonstrations "
                "(sft.num_demonstrations, sft.forced_share), or pass --force"
            ),
        )
    say(f"gate passed by --force: {text}")


def train(command: Command, stage: "StageDir") -> None:
    """Build everything, train, save the adapter."""
    from train.models.model import load_tokenizer, run_tokenizer, set_up_torch
    from train.rl.alarms import find_alarms
    from train.rl.checkpoints import StopOnSignal, last_checkpoint, step_of
    from train.rl.grpo_trainer import MultiSegmentGRPOTrainer, step_dataset
    from train.rl.metrics_callback import StepRecorder
    from train.rl.step_rollouts import StepRollouts
    from train.rollouts.arena import open_arena
    from train.stages.progress import Progress

    set_up_torch(command.settings)
    settings, grpo = command.settings, command.settings.grpo
    model = starting_model(settings)
    with (
        open_arena(settings) as arena,
        Progress("GRPO", total=grpo.max_steps, unit="steps", enabled=stage.is_main) as progress,
    ):
        rollouts = StepRollouts(settings, arena, stage, progress)
        announce(settings, model, stage, arena)
        recorder = StepRecorder(
            stage, progress, describe=describe, print_rows=True, find_alarms=find_alarms
        )
        stop = StopOnSignal()
        trainer = MultiSegmentGRPOTrainer(
            model,
            args=trainer_args(settings, stage),
            train_dataset=step_dataset(
                [task.id for task in arena.store.split("train")],
                num_steps=grpo.max_steps,
                groups_per_step=grpo.groups_per_step,
                seed=settings.run.seed,
            ),
            processing_class=load_tokenizer(run_tokenizer(settings)),
            rollouts=rollouts,
            tokens_per_microbatch=grpo.tokens_per_microbatch,
            callbacks=[recorder],
        )
        rollouts.attach(trainer)
        watch = dev_watch(settings, arena, stage, rollouts, trainer)
        checkpoint = last_checkpoint(stage) if command.resume else None
        done = step_of(checkpoint) if checkpoint else 0
        stage.rewind(done)
        watch.rewind(done)
        trainer.accelerator.wait_for_everyone()
        rollouts.restore(dropped_after=watch.flagged_steps())
        if grpo.evaluate_every:
            trainer.add_callback(watch)
        trainer.add_callback(stop)  # last: a signal during an evaluation counts at once
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.stopped:
        return stage.say_stopped(trainer.state.global_step)
    finish(stage, trainer, watch if grpo.evaluate_every else None)


def finish(stage: "StageDir", trainer: Any, watch: "DevWatch | None") -> None:
    """Write the result: the best adapter on dev tasks, or without `watch` the last."""
    from train.models.distributed import save_adapter

    facts: dict[str, Any] = {"steps": trainer.state.global_step}
    if watch is None:
        save_adapter(trainer, stage.path / "adapter")
    else:
        facts |= {"best_step": watch.best_step(), "stopped_by_guard": watch.stopped}
        if stage.is_main:
            shutil.copytree(watch.adapter(), stage.path / "adapter", dirs_exist_ok=True)
    stage.finish(facts, output=stage.path / "adapter")


def dev_watch(
    settings: "Settings", arena: "Arena", stage: "StageDir", rollouts: "StepRollouts", trainer: Any
) -> "DevWatch":
    """Return what evaluates on dev tasks; it acts only as a callback of the trainer."""
    from train.models.distributed import save_adapter
    from train.rl.dev_evaluation import DEV_SAMPLES, DevWatch
    from train.rollouts.runner import group_requests

    tasks = [task.id for task in arena.store.split("dev")]
    return DevWatch(
        stage,
        requests=group_requests(settings, tasks, stage="dev", step=0, group_size=DEV_SAMPLES),
        every=settings.grpo.evaluate_every or settings.grpo.max_steps,
        play=lambda requests, step: rollouts.play(requests, step=step, what="dev episodes"),
        save=lambda folder: save_adapter(trainer, folder),
        on_drop=rollouts.ease,
    )


def starting_model(settings: "Settings", base: Any = None) -> Any:
    """Return the policy to train: the SFT adapter goes on; tiny and `base` get a fresh one.

    Args:
        settings: The experiment.
        base: The base if it was loaded before, such as one without weights in a dry run.

    Raises:
        UserError: There is no adapter to go on with, or it is not what the settings say.
    """
    from train.models.adapters import adapted_layers, check_adapter
    from train.models.model import add_adapter, load_adapter, load_base
    from train.stages.run_dir import stage_dir

    base = load_base(settings) if base is None else base
    start = settings.grpo.start_from
    if start == "base" or (start == "sft" and settings.model.kind == "tiny"):
        return add_adapter(base, settings)
    folder = stage_dir(settings, "sft").path / "adapter" if start == "sft" else Path(start)
    layers = adapted_layers(base, settings.model.lora_targets)
    model = load_adapter(base, folder, trainable=True)
    check_adapter(model, settings, folder=folder, layers=layers)
    return model


def trainer_args(settings: "Settings", stage: "StageDir") -> Any:
    """Derive TRL's arguments from ours.

    Raises:
        UserError: TRL refuses a value of `grpo.trl`, or a tracker is not installed.
    """
    import torch
    from accelerate import PartialState
    from transformers.integrations import get_reporting_integration_callbacks

    from train.config.trl_arguments import with_defaults
    from train.rl.grpo_trainer import grpo_config

    grpo = settings.grpo
    derived = partial(
        grpo_config,
        stage.checkpoints,
        groups_per_step=grpo.groups_per_step,
        group_size=grpo.group_size,
        max_steps=grpo.max_steps,
        learning_rate=grpo.learning_rate,
        save_steps=settings.checkpoints.every,
        seed=settings.run.seed,
        bf16=settings.model.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        world_size=PartialState().num_processes,
        beta=grpo.kl_weight,
        activation_checkpointing=settings.model.gradient_checkpointing,
        keep_checkpoints=settings.checkpoints.keep,
        extra={**with_defaults(grpo.trl), "run_name": settings.run.name},
    )
    try:
        args = derived()
        for tracker in get_reporting_integration_callbacks(args.report_to):
            tracker()  # is its package there? else told after the model is loaded
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UserError(
            "TRL refuses its arguments",
            got=" ".join(str(error).split())[:300],
            remedy=f"mend or leave out one of grpo.trl: {', '.join(grpo.trl)}",
        ) from error
    return args


def announce(settings: "Settings", model: Any, stage: "StageDir", arena: "Arena") -> None:
    """Say what is about to be trained, and how."""
    from train.models.model import count_parameters

    count, grpo = count_parameters(model), settings.grpo
    if stage.is_main:
        say(
            f"{settings.model.base}: {count.total:,} parameters, {count.trainable:,} trainable "
            f"({count.share:.2%}); {len(arena.store.split('train')):,} tasks; "
            f"{grpo.groups_per_step} groups x {grpo.group_size} = "
            f"{grpo.groups_per_step * grpo.group_size} episodes per step; writes {stage.path}"
        )


def describe(row: dict[str, Any]) -> str:
    """One line per step: what the policy did and what was learned from it."""
    stops = {k.removeprefix("stop/"): v for k, v in row.items() if k.startswith("stop/") and v}
    broken = {
        k.removeprefix("unscorable/"): v for k, v in row.items() if k.startswith("unscorable/")
    }
    unscorable = ", ".join(f"{name} {num:.0f}" for name, num in broken.items() if num)
    per_solved = row.get("tokens_per_solved")
    parts = [
        f"pass {row.get('pass_rate', 0):.2f}",
        f"tokens/solved {per_solved:.0f}" if per_solved is not None else "tokens/solved -",
        f"peak {row.get('peak_context', 0):.0f}",
        f"segments {row.get('segments_per_episode', 0):.2f}",
        f"no signal {row.get('share_groups_without_signal', 0):.0%}",
        " ".join(f"{name} {share:.0%}" for name, share in stops.items()),
        *([f"unscorable: {unscorable}"] if unscorable else []),
        f"grad {row.get('grad_norm', 0):.2f}",
        f"entropy {row.get('entropy', float('nan')):.2f}",
        f"{row.get('seconds/rollout', 0):.0f}+{row.get('seconds/learn', 0):.0f} s",
    ]
    return " | ".join(parts)


if __name__ == "__main__":
    end_with_parent()
    switch_telemetry_off(os.environ)
    typed = os.environ.get(COMMAND_VARIABLE, "accelerate launch train/grpo.py")
    sys.exit(run_main(main, sys.argv[1:], command=typed, has_log=True))
