"""GRPO: groups of episodes, one score and one advantage per episode, all its segments trained.

Goes on with the SFT adapter (or puts a fresh one on the tiny model's base), refuses a warm start
that cannot be improved by RL (`--force` overrides), and writes every episode and one metrics row
per step to runs/NAME/grpo.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from envs.records import Episode
from train.config.load import Command
from train.config.settings import Settings
from train.models.adapters import adapted_layers, check_adapter
from train.models.distributed import find_longest_wait, joined, save_adapter
from train.models.model import (
    add_adapter,
    count_parameters,
    load_adapter,
    load_base,
    load_tokenizer,
    run_tokenizer,
    set_up_torch,
)
from train.recipes.dry_run import show
from train.recipes.gate import check_gate
from train.recipes.opening import open_training
from train.recipes.panel import describe_grpo
from train.rl.alarms import find_alarms
from train.rl.checkpoints import StopOnSignal, find_last_step, rewind_to_checkpoint
from train.rl.dev_evaluation import DEV_SAMPLES, DevEvaluation
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import MultiSegmentGRPOTrainer, make_step_dataset
from train.rl.importance import choose_form
from train.rl.metrics_callback import StepRecorder
from train.rl.scoring import find_flagged_steps
from train.rl.step_rollouts import StepRollouts
from train.rl.trackers import Report, open_tracker
from train.rollouts.backend import choose_backend, open_backend
from train.rollouts.runner import EpisodeRequest, RolloutRunner, open_runner
from train.stages.open_stage import require
from train.stages.progress import Progress
from train.stages.run_dir import StageDir, stage_dir
from train.stages.stage_log import say


def run(command: Command, *, world_size: int) -> int:
    """Run the stage, or show what it would do; returns the exit code."""
    wait = find_longest_wait(command.settings.rollouts)
    with joined(world_size=world_size, longest_wait=wait):
        if command.dry_run:
            return show(
                command,
                stage="grpo",
                open_stage=lambda: open_grpo(command),
                model_on=lambda base: make_starting_model(command.settings, base),
                derive=lambda: derive_grpo_config(command.settings, Path()),
            )
        stage = open_grpo(command)
        if not stage.is_done():
            step = find_last_step(stage, resume=command.resume)
            with open_tracker(command.settings, stage, step=step) as report:
                train(command, stage, report)
        return 0


def open_grpo(command: Command) -> StageDir:
    """Return this stage.

    Raises:
        UserError: Something that it needs is missing, vLLM included where it is asked for, the warm
            start is outside the gate, or something is in its way.
    """
    settings = command.settings
    choose_backend(settings)
    inputs = [require(settings, "tasks", experiment=command.experiment)]
    require(settings, "demos", experiment=command.experiment)  # holds the run's tokenizer
    if settings.grpo.start_from == "sft":
        inputs.append(require(settings, "sft", experiment=command.experiment))
        check_gate(inputs[-1], force=command.force)
    return open_training(command, "grpo", inputs=inputs)


def train(command: Command, stage: StageDir, report: Report) -> None:
    """Build everything, train, save the adapter."""
    settings, grpo = command.settings, command.settings.grpo
    set_up_torch(settings)
    checkpoint = rewind_to_checkpoint(stage, resume=command.resume)
    with (
        open_backend(settings, stage) as acting,
        open_runner(settings) as runner,
        show_start(command, stage, model := make_starting_model(settings), runner) as progress,
    ):
        rollouts = StepRollouts(
            settings, runner, stage, progress, dropped_after=find_flagged_steps(stage)
        )
        recorder = StepRecorder(
            stage,
            progress,
            describe=describe,
            print_rows=True,
            report=report,
            find_alarms=find_alarms,
        )
        trainer = MultiSegmentGRPOTrainer(
            model,
            args=derive_grpo_config(settings, stage.checkpoints),
            train_dataset=make_step_dataset(
                num_steps=grpo.max_steps, groups_per_step=grpo.groups_per_step
            ),
            processing_class=load_tokenizer(run_tokenizer(settings)),
            rollouts=rollouts,
            tokens_per_microbatch=grpo.tokens_per_microbatch,
            importance=choose_form(settings, backend=choose_backend(settings)),
            acting=acting,
            callbacks=[recorder],
        )
        evaluation = (
            evaluate_dev(trainer, rollouts, runner, stage, report) if grpo.evaluate_every else None
        )
        stop = StopOnSignal()
        trainer.add_callback(stop)  # last: a signal during an evaluation counts at once
        trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped:
        return stage.say_stopped(trainer.state.global_step)
    rollouts.forget_ahead(before=trainer.state.global_step)
    facts: dict[str, Any] = {"steps": trainer.state.global_step}
    if evaluation:
        facts["best_step"] = evaluation.copy_best(stage.path / "adapter")
        facts["stopped_by_guard"] = evaluation.stopped
    else:
        save_adapter(trainer, stage.path / "adapter")
    stage.finish(facts, output=stage.path / "adapter")


def show_start(command: Command, stage: StageDir, model: Any, runner: RolloutRunner) -> Progress:
    """Say what is trained, on what, and where; returns the progress line that follows."""
    num_tasks = len(runner.store.split("train"))
    if stage.is_main:
        say(describe_grpo(command, stage, count=count_parameters(model), num_tasks=num_tasks))
    steps = command.settings.grpo.max_steps
    return Progress("GRPO", total=steps, unit="steps", enabled=stage.is_main)


def evaluate_dev(
    trainer: MultiSegmentGRPOTrainer,
    rollouts: StepRollouts,
    runner: RolloutRunner,
    stage: StageDir,
    report: Report,
) -> DevEvaluation:
    """Let the trainer evaluate its policy on dev tasks from time to time."""

    def play(requests: Sequence[EpisodeRequest], step: int) -> list[Episode]:
        with trainer.acting(trainer) as model:
            episodes = rollouts.play(requests, model, step=step, what="dev episodes")
        trainer.model.train()  # it may have acted itself, and in eval mode TRL logs no step
        return episodes

    settings, tasks = runner.settings, [task.id for task in runner.store.split("dev")]
    evaluation = DevEvaluation(
        stage,
        requests=runner.draw_requests(tasks, stage="dev", group_size=DEV_SAMPLES),
        every=settings.grpo.evaluate_every or settings.grpo.max_steps,
        play=play,
        save=partial(save_adapter, trainer),
        on_drop=rollouts.scoring.halve_cost_weight,
        report=report,
    )
    trainer.add_callback(evaluation)
    return evaluation


def make_starting_model(settings: Settings, base: Any = None) -> Any:
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
