"""Warm start: TRL's SFTTrainer on segments of demonstrations, loss on sampled tokens only.

The tiny model is trained whole and becomes the base (`sft/model`); a pretrained one gets a LoRA
adapter (`sft/adapter`), which GRPO goes on with. At the end the policy plays dev tasks once: what
it does there is the gate before GRPO (`train/recipes/gate.py`).
"""

import random
from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from envs.errors import UserError
from train.config.load import Command
from train.config.settings import Settings
from train.models.distributed import autocast_deepspeed, device_arguments, whole_weights
from train.models.hub import shape_folder
from train.models.model import (
    add_adapter,
    count_parameters,
    hold_adapter_in_float32,
    load_base,
    load_tokenizer,
    random_tiny,
    run_tokenizer,
    set_up_torch,
)
from train.recipes.dry_run import show, show_shape
from train.recipes.gate import measure_gate
from train.recipes.opening import Opening
from train.rl.checkpoints import StopOnSignal, WholeCheckpoints, last_checkpoint, step_of
from train.rl.metrics_callback import StepRecorder
from train.rl.segments import episode_rows
from train.stages.open_stage import require
from train.stages.output import say
from train.stages.progress import Progress
from train.stages.run_dir import StageDir

_DECAY_SHARE = 0.6  # of the steps: a short run gains most while the rate falls (measured on tiny)
_WARMUP_SHARE = 0.009  # of the steps: 20 of tiny's 2,244
_LEAST_WARMUP = 5  # steps


def run(command: Command, *, world_size: int) -> int:
    """Run the stage, or show what it would do; returns the exit code."""
    settings = command.settings
    if command.dry_run and shape_folder(settings.model):
        return show_shape(command, stage="sft")
    tasks = require(settings, "tasks", experiment=command.experiment)
    demos = require(settings, "demos", experiment=command.experiment)
    opening = Opening(command)
    stage = opening.open_stage("sft", inputs=[tasks, demos], world_size=world_size)
    if command.dry_run:
        return show(
            command,
            stage="sft",
            opening=opening,
            model_on=starting_model,
            arguments=lambda settings, stage: sft_config(
                settings, stage, rows_dataset(demos)["length"]
            ),
        )
    if not stage.is_done():
        train(command, stage, demos)
    return 0


class Trainer(WholeCheckpoints, SFTTrainer):  # type: ignore[misc]
    """TRL's, with checkpoints that are renamed when whole."""


def train(command: Command, stage: StageDir, demos: StageDir) -> None:
    """Train, save, and measure the gate."""
    settings = command.settings
    set_up_torch(settings)
    tokenizer = load_tokenizer(run_tokenizer(settings))
    dataset = rows_dataset(demos)
    lengths = dataset["length"]
    # the user's error, if any, before the model is loaded
    batch_sizes(settings, lengths, world_size=PartialState().num_processes)
    model = starting_model(settings, tokenizer=tokenizer)
    parameters = count_parameters(model)
    config = sft_config(settings, stage, lengths)
    if stage.is_main:
        say(
            f"{settings.model.base}: {parameters.total:,} parameters, "
            f"{parameters.trainable:,} trainable ({parameters.share:.2%}); "
            f"{len(lengths):,} segments, {sum(lengths):,} tokens; writes {stage.path}"
        )
    steps, stop = config.max_steps, StopOnSignal()
    with Progress("warm start", total=steps, unit="steps", enabled=stage.is_main) as progress:
        trainer = Trainer(
            model=model,
            args=config,
            train_dataset=in_order(dataset, config, seed=settings.run.seed),
            processing_class=tokenizer,
            callbacks=[StepRecorder(stage, progress, describe=describe), stop],
        )
        trainer.remove_callback(PrinterCallback)  # the progress line shows the rows
        hold_adapter_in_float32(trainer.model)
        checkpoint = last_checkpoint(stage) if command.resume else None
        stage.rewind(step_of(checkpoint) if checkpoint else 0)
        trainer.accelerator.wait_for_everyone()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.stopped:
        return stage.say_stopped(trainer.state.global_step)
    target = stage.path / ("model" if settings.model.kind == "tiny" else "adapter")
    trainer.save_model(str(target))
    with whole_weights(trainer):
        if stage.is_main:
            facts = measure_gate(settings, trainer.accelerator.unwrap_model(trainer.model))
            facts |= {"parameters": parameters.total, "trainable": parameters.trainable}
            stage.finish(facts, output=target)


def rows_dataset(demos: StageDir) -> Dataset:
    """Return a row per segment: `input_ids`, `labels` (-100 if not sampled), `length`."""
    episodes = demos.read_episodes("demonstrations")
    rows = [row for episode in episodes for row in episode_rows(episode, advantage=0.0)]
    return Dataset.from_dict(
        {
            "input_ids": [row.token_ids_T for row in rows],
            "labels": [
                [t if m else -100 for t, m in zip(row.token_ids_T, row.loss_mask_T, strict=True)]
                for row in rows
            ],
            "length": [len(row.token_ids_T) for row in rows],
        }
    )


def starting_model(settings: Settings, base: Any = None, *, tokenizer: Any = None) -> Any:
    """Return random tiny weights, or the pretrained base with a fresh adapter.

    Args:
        settings: The experiment.
        base: The base if it was made before, such as one without weights in a dry run.
        tokenizer: The run's, which decides on the tiny model's shape.
    """
    if settings.model.kind == "tiny":
        return random_tiny(settings, tokenizer) if base is None else base
    return add_adapter(load_base(settings) if base is None else base, settings)


def sft_config(settings: Settings, stage: StageDir, lengths: list[int]) -> SFTConfig:
    """Derive TRL's arguments: rows per batch from tokens; warm-up, constant, then a decay."""
    sft, world_size = settings.sft, PartialState().num_processes
    micro, accumulation = batch_sizes(settings, lengths, world_size=world_size)
    rows = micro * accumulation * world_size
    steps = max(1, round(sft.epochs * len(lengths) / rows))
    decay = max(1, round(_DECAY_SHARE * steps))
    warmup = min(max(_LEAST_WARMUP, round(_WARMUP_SHARE * steps)), max(0, steps - decay))
    bf16, use_cpu = settings.model.precision == "bf16", not torch.cuda.is_available()
    args = SFTConfig(
        output_dir=str(stage.checkpoints),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        max_steps=steps,
        learning_rate=sft.learning_rate,
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": decay, "min_lr_ratio": 0.05},
        warmup_steps=warmup,
        train_sampling_strategy="sequential",  # `step_order` is the order
        **device_arguments(use_cpu=use_cpu, world_size=world_size, bf16=bf16),
        gradient_checkpointing=settings.model.gradient_checkpointing,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        seed=settings.run.seed,
        logging_steps=5,
        save_strategy="steps",
        save_steps=max(1, steps // 4),
        save_total_limit=settings.checkpoints.keep,
        report_to="none",
        disable_tqdm=True,
    )
    autocast_deepspeed(args, bf16=bf16)
    return args


def batch_sizes(settings: Settings, lengths: Sequence[int], *, world_size: int) -> tuple[int, int]:
    """Return rows per micro-batch and micro-batches per step of one process.

    A step has the same number of rows for any number of processes.

    Raises:
        UserError: The rows do not divide among the processes.
    """
    mean = sum(lengths) / len(lengths)
    most = max(1, settings.grpo.tokens_per_microbatch // max(lengths))

    def rows_of(tokens: float) -> int:
        rows = max(1, round(tokens / mean))
        return rows if rows <= most else most * round(rows / most)

    rows = rows_of(settings.sft.tokens_per_batch)
    if rows % world_size:
        tokens = settings.sft.tokens_per_batch
        better = next(n for n in count(rows) if rows_of(n * mean) % world_size == 0)
        raise UserError(
            "the rows of a warm-start step do not divide among the processes",
            got=f"sft.tokens_per_batch {tokens} is {rows} rows, {world_size} processes",
            remedy=f"set sft.tokens_per_batch to {round(better * mean)}",
        )
    share = rows // world_size
    micro = max(size for size in range(1, min(most, share) + 1) if share % size == 0)
    return micro, share // micro


def in_order(dataset: Any, config: Any, *, seed: int) -> Any:
    """Return the rows of the whole run, step after step."""
    order = step_order(
        dataset["length"],
        rows_per_step=config.train_batch_size
        * config.gradient_accumulation_steps
        * config.world_size,
        num_steps=config.max_steps,
        seed=seed,
    )
    return dataset.select(order)


def step_order(
    lengths: Sequence[int], *, rows_per_step: int, num_steps: int, seed: int
) -> list[int]:
    """Return the rows of all steps: passes in an order drawn anew, with like lengths together.

    The whole run is one epoch of this, so the rows of a step depend neither on the number of
    processes nor on where a resumed run goes on.
    """
    num_rows, order = len(lengths), []
    stretch = rows_per_step * max(1, min(num_rows // (4 * rows_per_step), 50))  # is sorted
    for number in range(-(-num_steps * rows_per_step // num_rows)):
        drawn = random.Random(f"{seed}/{number}").sample(range(num_rows), num_rows)
        for start in range(0, num_rows, stretch):
            order += sorted(drawn[start : start + stretch], key=lambda row: -lengths[row])
    return order[: num_steps * rows_per_step]


def describe(row: dict[str, Any]) -> str:
    """One note for the progress line."""
    accuracy = row.get("mean_token_accuracy")
    note = f"loss {row['loss']:.3f}" if "loss" in row else ""
    return note + (f", token accuracy {accuracy:.3f}" if accuracy is not None else "")
