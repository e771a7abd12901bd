"""GRPO: groups of episodes, one score and one advantage per episode, all its segments trained.

Goes on with the SFT adapter (or puts a fresh one on the tiny model's base), refuses a warm start
that cannot be improved by RL (`--force` overrides), and writes every episode and one metrics row
per step to runs/NAME/grpo.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers.integrations import get_reporting_integration_callbacks

from envs.errors import UserError
from train.config.load import Command
from train.config.settings import Settings
from train.config.trl_arguments import with_defaults
from train.models.adapters import adapted_layers, check_adapter
from train.models.distributed import save_adapter
from train.models.hub import shape_folder
from train.models.model import (
    add_adapter,
    count_parameters,
    load_adapter,
    load_base,
    load_tokenizer,
    run_tokenizer,
    set_up_torch,
)
from train.recipes.dry_run import show, show_shape
from train.recipes.gate import check_gate
from train.recipes.opening import Opening
from train.rl.alarms import find_alarms
from train.rl.checkpoints import StopOnSignal, last_checkpoint, step_of
from train.rl.dev_evaluation import DEV_SAMPLES, DevWatch
from train.rl.grpo_trainer import MultiSegmentGRPOTrainer, grpo_config, step_dataset
from train.rl.metrics_callback import StepRecorder
from train.rl.step_rollouts import StepRollouts
from train.rollouts.arena import open_arena
from train.rollouts.runner import Arena, group_requests
from train.stages.open_stage import require
from train.stages.output import say
from train.stages.progress import Progress
from train.stages.run_dir import StageDir, stage_dir


def run(command: Command, *, world_size: int) -> int:
    """Run the stage, or show what it would do; returns the exit code."""
    settings = command.settings
    if command.dry_run and shape_folder(settings.model):
        return show_shape(command, stage="grpo")
    opening = Opening(command)
    inputs = [require(settings, "tasks", experiment=command.experiment)]
    with opening.check():
        require(settings, "demos", experiment=command.experiment)  # holds the run's tokenizer
    with opening.check():
        if settings.grpo.start_from == "sft":
            inputs.append(require(settings, "sft", experiment=command.experiment))
            check_gate(inputs[-1], force=command.force)
    stage = opening.open_stage("grpo", inputs=inputs, world_size=world_size)
    if command.dry_run:
        return show(
            command, stage="grpo", opening=opening, model_on=starting_model, arguments=trainer_args
        )
    if not stage.is_done():
        train(command, stage)
    return 0


def train(command: Command, stage: StageDir) -> None:
    """Build everything, train, save the adapter."""
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


def finish(stage: StageDir, trainer: Any, watch: DevWatch | None) -> None:
    """Write the result: the best adapter on dev tasks, or without `watch` the last."""
    facts: dict[str, Any] = {"steps": trainer.state.global_step}
    if watch is None:
        save_adapter(trainer, stage.path / "adapter")
    else:
        facts |= {"best_step": watch.best_step(), "stopped_by_guard": watch.stopped}
        if stage.is_main:
            shutil.copytree(watch.adapter(), stage.path / "adapter", dirs_exist_ok=True)
    stage.finish(facts, output=stage.path / "adapter")


def dev_watch(
    settings: Settings, arena: Arena, stage: StageDir, rollouts: StepRollouts, trainer: Any
) -> DevWatch:
    """Return what evaluates on dev tasks; it acts only as a callback of the trainer."""
    tasks = [task.id for task in arena.store.split("dev")]
    return DevWatch(
        stage,
        requests=group_requests(settings, tasks, stage="dev", step=0, group_size=DEV_SAMPLES),
        every=settings.grpo.evaluate_every or settings.grpo.max_steps,
        play=lambda requests, step: rollouts.play(requests, step=step, what="dev episodes"),
        save=lambda folder: save_adapter(trainer, folder),
        on_drop=rollouts.ease,
    )


def starting_model(settings: Settings, base: Any = None) -> Any:
    """Return the policy to train: the SFT adapter goes on; tiny and `base` get a fresh one.

    Args:
        settings: The experiment.
        base: The base if it was loaded before, such as one without weights in a dry run.

    Raises:
        UserError: There is no adapter to go on with, or it is not what the settings say.
    """
    base = load_base(settings) if base is None else base
    start = settings.grpo.start_from
    if start == "base" or (start == "sft" and settings.model.kind == "tiny"):
        return add_adapter(base, settings)
    folder = stage_dir(settings, "sft").path / "adapter" if start == "sft" else Path(start)
    layers = adapted_layers(base, settings.model.lora_targets)
    model = load_adapter(base, folder, trainable=True)
    check_adapter(model, settings, folder=folder, layers=layers)
    return model


def trainer_args(settings: Settings, stage: StageDir) -> Any:
    """Derive TRL's arguments from ours.

    Raises:
        UserError: TRL refuses a value of `grpo.trl`, or a tracker is not installed.
    """
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


def announce(settings: Settings, model: Any, stage: StageDir, arena: Arena) -> None:
    """Say what is about to be trained, and how."""
    count, grpo = count_parameters(model), settings.grpo
    if stage.is_main:
        say(
            f"{settings.model.base}: {count}; {len(arena.store.split('train')):,} tasks; "
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
