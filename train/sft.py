"""Warm start: TRL's SFTTrainer on segments of demonstrations, loss on sampled tokens only.

    accelerate launch train/sft.py --config configs/tiny.yaml

The tiny model is trained whole and becomes the base (`sft/model`); a pretrained one gets a LoRA
adapter (`sft/adapter`), which GRPO goes on with. At the end the policy plays dev tasks once: what
it does there is the gate before GRPO.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: look from the repository root, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from envs.errors import InfrastructureError, UserError
from train.config.load import Command, parse_command
from train.models.hub import shape_folder, switch_telemetry_off
from train.stages.ending import COMMAND_VARIABLE, end_with_parent, run_main
from train.stages.output import keep_log, say

if TYPE_CHECKING:
    from envs.records import Episode
    from train.config.settings import Settings
    from train.models.model import ParameterCount
    from train.stages.run_dir import StageDir

EXAMPLE = "accelerate launch train/sft.py --config configs/tiny.yaml"
_DECAY_SHARE = 0.6  # of the steps: a short run gains most while the rate falls (measured on tiny)
_WARMUP_SHARE = 0.009  # of the steps: 20 of tiny's 2,244
_LEAST_WARMUP = 5  # steps
_GATE_TASKS = 48  # dev episodes; a pass rate of 50 % is then known to 14 points (95 %)


def main(argv: list[str]) -> int:
    """Run the stage; heavy imports wait until the command line is known to be right."""
    command = parse_command(
        argv,
        prog="accelerate launch train/sft.py",
        description="Warm start on solved demonstrations.",
        example=EXAMPLE,
    )
    from train.stages.opening import Opening
    from train.stages.run_dir import open_stage, require

    if command.dry_run and shape_folder(command.settings.model):
        from train.recipes.dry_run import show_shape

        return show_shape(command, stage="sft")
    tasks = require(command.settings, "tasks", experiment=command.experiment)
    demos = require(command.settings, "demos", experiment=command.experiment)
    from train.models.distributed import join
    from train.models.model import check_base

    check_base(command.settings)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))  # the launcher sets it
    processes = join(world_size=world_size)
    opening = Opening(is_dry=command.dry_run)
    with opening.check():
        stage = open_stage(
            command.settings,
            "sft",
            resume=command.resume,
            clean=command.clean,
            is_main=processes.is_main_process,
            inputs=[tasks, demos],
            dry_run=command.dry_run,
        )
    if command.dry_run:
        from train.recipes.dry_run import show

        return show(
            command,
            stage="sft",
            opening=opening,
            model_on=starting_model,
            arguments=lambda settings, stage: sft_config(
                settings, stage, rows_dataset(demos)["length"]
            ),
        )
    processes.wait_for_everyone()  # the main process may have deleted the last run
    keep_log(stage.path, rank=processes.process_index, stdout=True)
    if stage.is_done():
        return 0
    train(command, stage, demos)
    return 0


def train(command: Command, stage: "StageDir", demos: "StageDir") -> None:
    """Train, save, and measure the gate."""
    from accelerate import PartialState
    from trl import SFTTrainer

    from train.models.distributed import whole_weights
    from train.models.model import (
        count_parameters,
        hold_adapter_in_float32,
        load_tokenizer,
        run_tokenizer,
        set_up_torch,
    )
    from train.rl.checkpoints import StopOnSignal, WholeCheckpoints, last_checkpoint, step_of
    from train.rl.metrics_callback import StepRecorder
    from train.stages.progress import Progress

    settings = command.settings
    set_up_torch(settings)
    tokenizer = load_tokenizer(run_tokenizer(settings))
    dataset = rows_dataset(demos)
    # the user's error, if any, before the model is loaded
    batch_sizes(settings, dataset["length"], world_size=PartialState().num_processes)
    model = starting_model(settings, tokenizer=tokenizer)
    parameters = count_parameters(model)
    config = sft_config(settings, stage, dataset["length"])
    if stage.is_main:
        announce(settings, stage, parameters, lengths=dataset["length"])

    class Trainer(WholeCheckpoints, SFTTrainer):  # type: ignore[misc]
        """TRL's, with checkpoints that are renamed when whole."""

    steps, stop = config.max_steps, StopOnSignal()
    with Progress("warm start", total=steps, unit="steps", enabled=stage.is_main) as progress:
        recorder = StepRecorder(stage, progress, describe=describe)
        trainer = Trainer(
            model=model,
            args=config,
            train_dataset=in_order(dataset, config, seed=settings.run.seed),
            processing_class=tokenizer,
            callbacks=[recorder, stop],
        )
        quiet(trainer)
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


def announce(
    settings: "Settings", stage: "StageDir", count: "ParameterCount", *, lengths: Sequence[int]
) -> None:
    """Say what is about to be trained, and on what."""
    say(
        f"{settings.model.base}: {count.total:,} parameters, {count.trainable:,} trainable "
        f"({count.share:.2%}); {len(lengths):,} segments, {sum(lengths):,} tokens; "
        f"writes {stage.path}"
    )


def rows_dataset(demos: "StageDir") -> Any:
    """Return a row per segment: `input_ids`, `labels` (-100 if not sampled), `length`."""
    from datasets import Dataset

    from train.rl.segments import episode_rows

    rows = [row for e in read_demonstrations(demos) for row in episode_rows(e, advantage=0.0)]
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


def read_demonstrations(demos: "StageDir") -> "list[Episode]":
    """Read the solved demonstrations of the demos stage."""
    from envs.files import read_records
    from envs.records import Episode

    return read_records(demos.path / "demonstrations.jsonl", Episode)


def starting_model(settings: "Settings", base: Any = None, *, tokenizer: Any = None) -> Any:
    """Return random tiny weights, or the pretrained base with a fresh adapter.

    Args:
        settings: The experiment.
        base: The base if it was made before, such as one without weights in a dry run.
        tokenizer: The run's, which decides on the tiny model's shape.
    """
    from train.models.model import add_adapter, load_base, random_tiny

    if settings.model.kind == "tiny":
        return random_tiny(settings, tokenizer) if base is None else base
    return add_adapter(load_base(settings) if base is None else base, settings)


def sft_config(settings: "Settings", stage: "StageDir", lengths: list[int]) -> Any:
    """Derive TRL's arguments: rows per batch from tokens; warm-up, constant, then a decay."""
    from accelerate import PartialState
    from trl import SFTConfig

    from train.models.distributed import autocast_deepspeed, device_arguments

    sft, world_size = settings.sft, PartialState().num_processes
    micro, accumulation = batch_sizes(settings, lengths, world_size=world_size)
    rows = micro * accumulation * world_size
    steps = max(1, round(sft.epochs * len(lengths) / rows))
    decay = max(1, round(_DECAY_SHARE * steps))
    warmup = min(max(_LEAST_WARMUP, round(_WARMUP_SHARE * steps)), max(0, steps - decay))
    bf16 = settings.model.precision == "bf16"
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
        **device_arguments(use_cpu=not _has_gpu(), world_size=world_size, bf16=bf16),
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


def batch_sizes(
    settings: "Settings", lengths: Sequence[int], *, world_size: int
) -> tuple[int, int]:
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


def measure_gate(settings: "Settings", model: Any) -> dict[str, Any]:
    """Play dev tasks with the warm-started policy: the gate that GRPO checks before it starts.

    Once each in the window that is drawn for it, and, where a window of the run would force a
    rewrite, again in such a window: too few episodes are forced by chance to tell whether the
    policy rewrites at all.
    """
    from train.rollouts.arena import open_arena
    from train.rollouts.engine import engine_for
    from train.rollouts.runner import forced_requests, group_requests, model_policy
    from train.stages.progress import Progress

    with open_arena(settings) as arena:
        tasks = arena.store.split("dev")[:_GATE_TASKS]
        drawn = group_requests(
            settings, [task.id for task in tasks], stage="gate", step=0, group_size=1
        )
        rewrites = settings.context.strategy == "learned"
        forced = forced_requests(arena, tasks, stage="gate") if rewrites else []
        requests = [*drawn, *forced]
        engine = engine_for(model, arena.chat, settings)
        with Progress("dev tasks", total=len(requests), unit="episodes") as progress:
            episodes = arena.play_all(
                requests,
                model_policy(engine),
                policy="sft",
                concurrency=settings.grpo.generation_batch,
                engine=engine,
                on_episode=lambda r, e: progress.advance(),
            )
    return gate_facts(episodes[: len(drawn)], episodes[len(drawn) :], rewrites=rewrites)


def gate_facts(
    drawn: "Sequence[Episode]", forced: "Sequence[Episode]", *, rewrites: bool
) -> dict[str, Any]:
    """Return what the gate looks at; the pass rate is that of `drawn`, in windows as they come.

    Raises:
        InfrastructureError: The machine broke all of `drawn`, which says nothing of the policy.
    """
    from rewards.cost import num_compactions, num_evictions
    from rewards.outcome import is_scorable, is_solved

    first = [episode for episode in drawn if is_scorable(episode)]
    if drawn and not first:
        cause = (outcome := drawn[0].outcome) and outcome.unscorable
        raise InfrastructureError(f"none of {len(drawn)} dev episodes could be scored: {cause}")
    scorable = [episode for episode in (*drawn, *forced) if is_scorable(episode)]
    tight = [episode for episode in scorable if episode.forced and rewrites]
    return {
        "dev_tasks": len(first),
        "dev_pass_rate": sum(map(is_solved, first)) / max(1, len(first)),
        "dev_forced": len(tight),
        "forced_compact_share": _share(num_compactions, tight),
        "forced_evict_share": _share(num_evictions, tight),
    }


def _share(number: "Callable[[Episode], int]", episodes: "Sequence[Episode]") -> float:
    """Return the share of episodes in which something happened."""
    return sum(number(episode) > 0 for episode in episodes) / max(1, len(episodes))


def describe(row: dict[str, Any]) -> str:
    """One note for the progress line."""
    accuracy = row.get("mean_token_accuracy")
    note = f"loss {row['loss']:.3f}" if "loss" in row else ""
    return note + (f", token accuracy {accuracy:.3f}" if accuracy is not None else "")


def quiet(trainer: Any) -> None:
    """Take away the stock printing of every log row: the progress line shows them."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    end_with_parent()
    switch_telemetry_off(os.environ)
    typed = os.environ.get(COMMAND_VARIABLE, "accelerate launch train/sft.py")
    sys.exit(run_main(main, sys.argv[1:], command=typed, has_log=True))
