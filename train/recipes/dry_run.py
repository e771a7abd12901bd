"""`--dry-run` of the training stages: builds all but the optimizer step, shows it, writes nothing.

Resolved configuration, parameters, memory, time, one episode of `gold` in the real environment with
the real grader, and the first prompt as text and as tokens with its loss mask. What opens the stage
is called here too (`Opening`, `open_arena`, the stage's own model and arguments), so what it
refuses is refused here with the same words. Where the base is a folder with a model's shape but
without its weights: parameters and memory alone, for planning.
"""

import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Literal

from accelerate import PartialState

from envs.errors import InfrastructureError, UserError
from envs.policies import ScriptOptions
from envs.records import Episode, Segment
from envs.rendering import ChatFormat
from rewards.cost import billed_tokens, sampled_tokens
from rewards.outcome import is_solved
from train.config.load import Command
from train.config.settings import Settings
from train.models.chat_templates import set_run_template
from train.models.model import (
    ParameterCount,
    add_adapter,
    base_source,
    count_parameters,
    load_base,
    load_tokenizer,
    meta_base,
    random_tiny,
    run_tokenizer,
    set_up_torch,
)
from train.recipes.estimate import (
    Memory,
    Stage,
    Workload,
    can_measure,
    episodes_per_step,
    estimate_memory,
    measure_speed,
    stage_seconds,
)
from train.recipes.opening import Opening
from train.rl.segments import episode_rows
from train.rollouts.arena import open_arena
from train.rollouts.runner import Arena, group_requests
from train.stages.progress import Progress, duration
from train.stages.run_dir import COMMANDS, StageDir, dump_settings, stage_dir

_TOKENS_PER_LINE = 8
_LAYOUTS: dict[str, tuple[int, Literal[0, 2, 3]]] = {  # devices, stage of ZeRO
    "1 GPU": (1, 0),
    "8 GPUs, ZeRO-2": (8, 2),
    "8 GPUs, ZeRO-3": (8, 3),
}
_THRIFTY = ScriptOptions(find="search", submit_with_edit=True)


def show(
    command: Command,
    *,
    stage: Stage,
    opening: Opening,
    model_on: Callable[[Settings, Any], Any],
    arguments: Callable[[Settings, StageDir], Any],
) -> int:
    """Print what the stage would do, then what would keep it from starting.

    Args:
        command: The parsed command line; its base can be had and its task set is whole.
        stage: Which stage.
        opening: What was refused so far.
        model_on: Returns what the stage trains, on a base.
        arguments: Derives TRL's arguments.

    Returns:
        0; 1 if `gold` does not solve the first task, so that something is wrong with the tasks.

    Raises:
        UserError: The stage would not start.
    """
    settings = command.settings
    set_up_torch(settings)
    state = PartialState()
    if not state.is_main_process:
        return 0
    with Progress("dry run", total=4, unit="parts") as progress:
        tokenizer = _tokenizer(command, opening)
        base = meta_base(settings, tokenizer)
        # without the warm start there is nothing to go on with
        build = partial(_trainable, stage=stage) if opening.refused else model_on
        model = build(settings, base)
        arguments(settings, stage_dir(settings, stage))
        sections, is_sound = _build(
            settings, stage, tokenizer=tokenizer, model=model, state=state, progress=progress
        )
    sections["start"] = f"refused: {opening.refused}" if opening.refused else "nothing is missing"
    _print(sections)
    opening.end()
    return 0 if is_sound else 1


def show_shape(command: Command, *, stage: Stage) -> int:
    """Print what can be told from a base's config.json alone; needs no tasks and no tokenizer.

    Raises:
        UserError: Nothing would be trained.
    """
    settings = command.settings
    model = meta_base(settings, None)
    count = count_parameters(_trainable(settings, model, stage))
    columns = _planned_memory(settings, stage, shape=model.config, count=count)
    sections = {
        "configuration": dump_settings(settings),
        "parameters": _parameters_text(settings, stage, count),
        "memory per device (estimate)": _memory_text(columns, shape=model.config, count=count),
        "left out": f"{settings.model.base} holds no weights: counted on the meta device, without "
        "time, episode and first prompt. Without --dry-run this folder is refused.",
    }
    _print(sections)
    return 0


def _print(sections: dict[str, str]) -> None:
    for title, text in sections.items():
        sys.stdout.write(f"== {title} ==\n{text.rstrip()}\n\n")


def _build(
    settings: Settings,
    stage: Stage,
    *,
    tokenizer: Any,
    model: Any,
    state: PartialState,
    progress: Progress,
) -> tuple[dict[str, str], bool]:
    """Return what to print, and whether `gold` solved the task."""
    progress.advance(note="counting parameters and bytes")
    on_cpu = state.device.type == "cpu"
    count = count_parameters(model)
    world_size = state.num_processes
    now = estimate_memory(
        settings, stage, shape=model.config, count=count, world_size=world_size, on_cpu=on_cpu
    )
    columns = {f"here, {world_size} process{'es' if world_size > 1 else ''}": now}
    if settings.model.kind != "tiny":
        columns |= _planned_memory(settings, stage, shape=model.config, count=count)
    progress.advance(note="playing gold")
    with open_arena(settings, tokenizer=tokenizer) as arena:
        chat = arena.chat
        gold, careful = (_play(arena, stage, name) for name in ("gold", "careful"))
    row = episode_rows(gold, advantage=0.0)[0]
    progress.advance(note="measuring the model's speed")
    time_text = _time_text(
        settings, stage, tokenizer=tokenizer, chat=chat, count=count, state=state, like=careful
    )
    progress.advance(note="done")
    sections = {
        "configuration": dump_settings(settings),
        "parameters": _parameters_text(settings, stage, count),
        "memory per device (estimate)": _memory_text(columns, shape=model.config, count=count),
        "time (estimate)": time_text,
        "one episode of gold": _episode_text(gold),
        "first prompt as text": chat.decode(row.token_ids_T[: gold.turns[0].prompt_end]),
        "first segment as tokens, with its loss mask": _mask_text(row, chat),
    }
    return sections, is_solved(gold)


def _tokenizer(command: Command, opening: Opening) -> Any:
    settings, folder = command.settings, run_tokenizer(command.settings)
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    if settings.model.kind == "tiny":
        opening.end()  # its tokenizer is made of the demonstrations' tasks
        raise UserError(
            "the run's tokenizer is missing",
            got=f"no {folder}",
            remedy=f"{COMMANDS['demos']} {command.experiment} --clean",
        )
    tokenizer = load_tokenizer(base_source(settings))
    set_run_template(tokenizer, settings, now=datetime.now())
    return tokenizer


def _trainable(settings: Settings, base: Any, stage: Stage) -> Any:
    """Return what the stage trains: the from-scratch model whole in SFT, else an adapter."""
    if stage == "sft" and settings.model.kind == "tiny":
        return base
    return add_adapter(base, settings)


def _play(arena: Arena, stage: Stage, name: str) -> Episode:
    """Play a script on the first training task, in the window of the stage's first group.

    Raises:
        InfrastructureError: The machine broke it.
    """
    task = arena.store.split("train")[0]
    requests = group_requests(arena.settings, [task.id], stage=stage, step=0, group_size=1)
    options = _THRIFTY if name == "careful" else None
    episode = arena.play_all(
        requests,
        lambda request: arena.script(task, name, options=options),  # a fresh one for each attempt
        policy=name,
        concurrency=1,
    )[0]
    if episode.outcome is not None and episode.outcome.unscorable is not None:
        raise InfrastructureError(episode.outcome.unscorable)
    return episode


def _parameters_text(settings: Settings, stage: Stage, count: ParameterCount) -> str:
    grpo, sft = settings.grpo, settings.sft
    lines = [f"{settings.model.base}: {count}"]
    if count.trainable < count.total:
        lines[0] += f"; {count.total - count.trainable:,} in the base"
    if stage == "sft":
        lines.append(
            f"{sft.num_demonstrations:,} demonstrations, {sft.epochs:g} epochs, about "
            f"{sft.tokens_per_batch:,} tokens per step"
        )
    else:
        lines.append(
            f"{grpo.groups_per_step} groups x {grpo.group_size} = {episodes_per_step(settings)} "
            f"episodes per step, {grpo.max_steps} steps"
        )
    lines.append(f"micro-batches of {grpo.tokens_per_microbatch:,} tokens per device")
    return "\n".join(lines)


def _planned_memory(
    settings: Settings, stage: Stage, *, shape: Any, count: ParameterCount
) -> dict[str, Memory]:
    """Return the estimate for machines that are not at hand."""
    return {
        name: estimate_memory(
            settings,
            stage,
            shape=shape,
            count=count,
            world_size=world_size,
            on_cpu=False,
            zero=zero,
        )
        for name, (world_size, zero) in _LAYOUTS.items()
    }


def _memory_text(columns: dict[str, Memory], *, shape: Any, count: ParameterCount) -> str:
    rows = {
        "base weights": "weights",
        "adapter or trained weights": "adapter",
        "gradient": "gradient",
        "optimizer": "optimizer",
        "KL reference": "reference",
        "generation: whole or merged copy": "acting_copy",
        "generation: KV cache": "kv_cache",
        "training: gathered weights": "gathered",
        "training: activations": "activations",
        "training: logits": "logits",
        "peak (held + the larger phase)": "peak",
    }
    lines = [" " * 34 + "".join(f"{title:>17}" for title in columns)]
    lines += [
        f"{name:<34}" + "".join(f"{_bytes(getattr(m, field)):>17}" for m in columns.values())
        for name, field in rows.items()
    ]
    lines.append(
        f"by the formulas of train/recipes/estimate.py, with P {count.total - count.trainable:,}, "
        f"A {count.trainable:,}, L {shape.num_hidden_layers}, H {shape.hidden_size:,}, "
        f"I {shape.intermediate_size:,}, V {shape.vocab_size:,}"
    )
    return "\n".join(lines)


def _time_text(
    settings: Settings,
    stage: Stage,
    *,
    tokenizer: Any,
    chat: ChatFormat,
    count: ParameterCount,
    state: PartialState,
    like: Episode,
) -> str:
    is_local = settings.model.kind != "hub" or base_source(settings) != settings.model.base
    if not is_local:
        return "unknown: the weights are not on this machine yet"
    if not can_measure(count, on_cpu=state.device.type == "cpu"):
        return "unknown: too large to measure on a CPU"
    tiny = settings.model.kind == "tiny"
    base = random_tiny(settings, tokenizer) if tiny else load_base(settings)
    model = _trainable(settings, base, stage).to(state.device)
    rows = [row.token_ids_T for row in episode_rows(like, advantage=0.0)]
    speed = measure_speed(model, chat=chat, settings=settings, stage=stage, row=max(rows, key=len))
    workload = Workload(sampled_tokens(like), sum(map(len, rows)))
    seconds = stage_seconds(
        settings, stage, speed=speed, workload=workload, world_size=state.num_processes
    )
    steps = settings.grpo.max_steps
    each = f", {duration(seconds / steps)} per step" if stage == "grpo" else ""
    return (
        f"about {duration(seconds)} in all{each}, if episodes are like one of `careful` "
        f"({workload.sampled_tokens} tokens sampled, {workload.row_tokens} trained on)\n"
        f"measured just now: {speed.generated:,.0f} tokens/s generated, "
        f"{speed.trained:,.0f} tokens/s trained; larger batches are faster, "
        "running the tests is not counted"
    )


def _episode_text(gold: Episode) -> str:
    outcome = gold.outcome
    graded = "not graded"
    if outcome is not None:
        graded = (
            f"fail-to-pass {outcome.fail_to_pass_rate:.0%}, "
            f"pass-to-pass {outcome.pass_to_pass_rate:.0%}, sandbox {outcome.sandbox_level}"
        )
    return (
        f"task {gold.task_id}, window {gold.window_tokens} tokens\n"
        f"{'solved' if is_solved(gold) else 'NOT solved'}: {gold.stop_reason.value}, {graded}\n"
        f"{len(gold.turns)} turns, {billed_tokens(gold):,} billed tokens, "
        f"{len(gold.segment_ids)} segments"
    )


def _mask_text(row: Segment, chat: ChatFormat) -> str:
    """Show runs of equal mask: bounds, then each token as `id text`; + marks a trained one."""
    lines, start = [], 0
    ids, mask = row.token_ids_T, row.loss_mask_T
    for end in range(1, len(ids) + 1):
        if end < len(ids) and mask[end] == mask[start]:
            continue
        trained = "1 (trained)" if mask[start] else "0 (context)"
        lines.append(f"tokens {start} to {end - 1}: mask {trained}")
        sign = "+" if mask[start] else " "
        lines += [
            "  " + "  ".join(f"{sign}{token} {chat.decode([token])!r}" for token in ids[at:stop])
            for at in range(start, end, _TOKENS_PER_LINE)
            for stop in [min(at + _TOKENS_PER_LINE, end)]
        ]
        start = end
    return "\n".join(lines)


def _bytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else f"{size / 1e6:,.2f} MB"
