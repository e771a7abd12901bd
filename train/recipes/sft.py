"""Warm start: TRL's SFTTrainer on segments of demonstrations, loss on sampled tokens only.

The tiny model is trained whole and becomes the base (`sft/model`); a pretrained one gets a LoRA
adapter (`sft/adapter`), which GRPO goes on with. At the end the policy plays dev tasks once: what
it does there is the gate before GRPO (`train/recipes/gate.py`).
"""

import random
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from envs.errors import UserError
from rewards.mistakes import find_mistakes
from train.config.load import Command
from train.config.settings import Settings
from train.models.distributed import (
    autocast_deepspeed,
    find_longest_wait,
    joined,
    whole_weights,
)
from train.models.model import (
    add_adapter,
    count_parameters,
    hold_adapter_in_float32,
    load_base,
    load_tokenizer,
    random_tiny,
    run_tokenizer,
    set_up_torch,
    trains_in_bf16,
)
from train.models.scored_head import add_scored_head
from train.recipes.dry_run import show
from train.recipes.gate import measure_gate
from train.recipes.opening import open_training
from train.recipes.panel import describe_sft
from train.rl.checkpoints import (
    StopOnSignal,
    WholeCheckpoints,
    find_last_step,
    rewind_to_checkpoint,
)
from train.rl.metrics_callback import StepRecorder
from train.rl.segments import make_rows
from train.rl.shared_arguments import derive_shared_arguments
from train.rl.trackers import Report, open_tracker
from train.stages.open_stage import require
from train.stages.progress import Progress
from train.stages.run_dir import Stage, StageDir, stage_dir
from train.stages.stage_log import say

_INPUTS: tuple[Stage, ...] = ("tasks", "demos")
_DECAY_SHARE = 0.6  # of the steps: a short run gains most while the rate falls (measured on tiny)
_WARMUP_SHARE = 0.009  # of the steps: 20 of tiny's 2,244
_LEAST_WARMUP = 5  # steps


def run(command: Command, *, world_size: int) -> int:
    """Run the stage, or show what it would do; returns the exit code."""
    wait = find_longest_wait(command.settings.rollouts)
    with joined(world_size=world_size, longest_wait=wait):
        if command.dry_run:
            settings, demos = command.settings, stage_dir(command.settings, "demos")
            return show(
                command,
                stage="sft",
                open_stage=lambda: open_sft(command),
                model_on=lambda base: make_starting_model(settings, base),
                derive=lambda: derive_sft_config(settings, Path(), read_rows(demos)["length"]),
            )
        stage, demos = open_sft(command)
        if not stage.is_done():
            step = find_last_step(stage, resume=command.resume)
            with open_tracker(command.settings, stage, step=step) as report:
                train(command, stage, demos, report)
        return 0


def open_sft(command: Command) -> tuple[StageDir, StageDir]:
    """Return this stage, and that of the demonstrations.

    Raises:
        UserError: Something that it needs is missing, or something is in its way.
    """
    inputs = [require(command.settings, name, experiment=command.experiment) for name in _INPUTS]
    return open_training(command, "sft", inputs=inputs), inputs[1]


class Trainer(WholeCheckpoints, SFTTrainer):  # type: ignore[misc]
    """TRL's, with checkpoints that are renamed when whole."""


def train(command: Command, stage: StageDir, demos: StageDir, report: Report) -> None:
    """Train, save, and measure the gate."""
    settings = command.settings
    set_up_torch(settings)
    tokenizer = load_tokenizer(run_tokenizer(settings))
    dataset = read_rows(demos)
    lengths = dataset["length"]
    # the user's error, if any, before the model is loaded
    divide_rows(settings, lengths, world_size=PartialState().num_processes)
    model = make_starting_model(settings, tokenizer=tokenizer)
    parameters = count_parameters(model)
    config = derive_sft_config(settings, stage.checkpoints, lengths)
    order = draw_order(
        lengths,
        rows_per_step=config.train_batch_size
        * config.gradient_accumulation_steps
        * config.world_size,
        num_steps=config.max_steps,
        seed=settings.run.seed,
    )
    if stage.is_main:
        steps = config.max_steps
        say(describe_sft(command, stage, count=parameters, lengths=lengths, num_steps=steps))
    checkpoint, stop = rewind_to_checkpoint(stage, resume=command.resume), StopOnSignal()
    with Progress(
        "warm start", total=config.max_steps, unit="steps", enabled=stage.is_main
    ) as progress:
        trainer = Trainer(
            model=model,
            args=config,
            train_dataset=dataset.select(order),
            processing_class=tokenizer,
            callbacks=[StepRecorder(stage, progress, describe=describe, report=report), stop],
        )
        trainer.remove_callback(PrinterCallback)  # the progress line shows the rows
        hold_adapter_in_float32(trainer.model)
        add_scored_head(model.get_base_model() if isinstance(model, PeftModel) else model)
        trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped:
        return stage.say_stopped(trainer.state.global_step)
    target = stage.path / ("model" if settings.model.kind == "tiny" else "adapter")
    trainer.save_model(str(target))
    with whole_weights(trainer) as trained:
        facts = measure_gate(settings, trained, is_main=stage.is_main)
    facts |= {"parameters": parameters.total, "trainable": parameters.trainable}
    stage.finish(facts, output=target)


def read_rows(demos: StageDir) -> Dataset:
    """Return a row per segment: `input_ids`, `labels` (-100 if not sampled), `length`.

    Turns that were mistakes carry no loss: what is learned is the repair.
    """
    rows = [
        row
        for episode in demos.stream_episodes("demonstrations")
        for row in make_rows(episode, advantage=0.0, untrained=find_mistakes(episode))
    ]
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


def make_starting_model(settings: Settings, base: Any = None, *, tokenizer: Any = None) -> Any:
    """Return random tiny weights, or the pretrained base with a fresh adapter.

    Args:
        settings: The experiment.
        base: The base if it was made before, such as one without weights in a dry run.
        tokenizer: The run's, which decides on the tiny model's shape.
    """
    if settings.model.kind == "tiny":
        return random_tiny(settings, tokenizer) if base is None else base
    return add_adapter(load_base(settings) if base is None else base, settings)


def derive_sft_config(settings: Settings, folder: Path, lengths: list[int]) -> SFTConfig:
    """Derive TRL's arguments: rows per batch from tokens; warm-up, constant, then a decay."""
    sft, world_size = settings.sft, PartialState().num_processes
    micro, accumulation = divide_rows(settings, lengths, world_size=world_size)
    rows = micro * accumulation * world_size
    steps = max(1, round(sft.epochs * len(lengths) / rows))
    decay = max(1, round(_DECAY_SHARE * steps))
    warmup = min(max(_LEAST_WARMUP, round(_WARMUP_SHARE * steps)), max(0, steps - decay))
    args = SFTConfig(
        **derive_shared_arguments(settings, folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        max_steps=steps,
        learning_rate=sft.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": decay, "min_lr_ratio": 0.05},
        warmup_steps=warmup,
        train_sampling_strategy="sequential",  # `draw_order` is the order
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=5,
        save_steps=max(1, steps // 4),
    )
    autocast_deepspeed(args, bf16=trains_in_bf16(settings))
    return args


def divide_rows(settings: Settings, lengths: Sequence[int], *, world_size: int) -> tuple[int, int]:
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


def draw_order(
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
