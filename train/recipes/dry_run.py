"""`--dry-run` of the training stages: builds all but the optimizer step, shows it, writes nothing.

Resolved configuration, parameters, memory, time, one episode of `gold` in the real environment with
the real grader, and the first prompt as text and as tokens with its loss mask. What opens the stage
is called here too (its own opening, model and arguments, `open_runner`), so what it refuses is
refused here with the same words. Where the base is a folder with a model's shape but
without its weights: parameters and memory alone, for planning.
"""

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from accelerate import PartialState

from envs.errors import InfrastructureError, UserError
from envs.habits.options import ScriptOptions
from envs.records import Episode, Segment
from envs.rendering import ChatFormat
from rewards.cost import billed_tokens, sampled_tokens
from rewards.outcome import is_solved
from train.config.load import Command
from train.config.settings import Settings
from train.models.hub import shape_folder
from train.models.model import (
    ParameterCount,
    base_source,
    count_parameters,
    load_base,
    meta_base,
    random_tiny,
    set_up_torch,
)
from train.models.vocabulary import new_tokenizer, saved_tokenizer
from train.recipes.estimate import (
    LARGEST_ON_CPU,
    Stage,
    episodes_per_step,
    estimate_seconds,
    measure_speed,
)
from train.recipes.gpu_time import describe_gpu_time
from train.recipes.memory_table import (
    GPU_LAYOUTS,
    Layout,
    estimate_layouts,
    format_memory,
    make_trainable,
)
from train.recipes.server_memory import describe_servers
from train.rl.segments import make_rows
from train.rollouts.runner import RolloutRunner, open_runner
from train.stages.progress import Progress, duration
from train.stages.run_dir import dump_settings

_TOKENS_PER_LINE = 8
_THRIFTY = ScriptOptions(find="search", submit_with_edit=True)


def show(
    command: Command,
    *,
    stage: Stage,
    open_stage: Callable[[], object],
    model_on: Callable[[Any], Any],
    derive: Callable[[], object],
) -> int:
    """Print what the stage would do, then what would keep it from starting.

    Args:
        command: The parsed command line.
        stage: Which stage.
        open_stage: Opens it as a start does; in a dry run that writes nothing.
        model_on: Returns what the stage trains, on a base.
        derive: Derives TRL's arguments.

    Returns:
        0; 1 if `gold` does not solve the first task, so that something is wrong with the tasks.

    Raises:
        UserError: The stage would not start.
    """
    settings = command.settings
    if shape_folder(settings.model):
        return _show_shape(settings, stage)
    refused: UserError | None = None
    try:
        open_stage()
    except UserError as error:
        refused = error
    set_up_torch(settings)
    if not PartialState().is_main_process:
        return 0
    try:
        sections, is_sound = _build(settings, stage, None if refused else model_on, derive)
    except UserError as error:  # of something that is missing, the start says it better
        raise refused or error from None
    sections["start"] = f"refused: {refused}" if refused else "nothing is missing"
    _print(sections)
    if refused:
        raise refused
    return 0 if is_sound else 1


def _show_shape(settings: Settings, stage: Stage) -> int:
    """Print what follows from a base's config.json alone; needs no tasks and no tokenizer.

    Raises:
        UserError: Nothing would be trained.
    """
    model = make_trainable(settings, meta_base(settings, None), stage)
    sections = _describe_size(settings, stage, model, GPU_LAYOUTS)
    sections["left out"] = (
        f"{settings.model.base} holds no weights: counted on the meta device, without time, "
        "episode and first prompt. Without --dry-run this folder is refused."
    )
    _print(sections)
    return 0


def _build(
    settings: Settings,
    stage: Stage,
    model_on: Callable[[Any], Any] | None,
    derive: Callable[[], object],
) -> tuple[dict[str, str], bool]:
    """Return what to print, and whether `gold` solved the task."""
    processes = PartialState()
    with Progress("dry run", total=4, unit="parts") as progress:
        tokenizer = saved_tokenizer(settings) or new_tokenizer(settings, now=datetime.now())
        base = meta_base(settings, tokenizer)
        # without the warm start there is nothing to go on with
        model = model_on(base) if model_on else make_trainable(settings, base, stage)
        if model_on:
            derive()
        progress.advance(note="counting parameters and bytes")
        number = processes.num_processes
        here = f"here, {number} process{'es' if number > 1 else ''}"
        layouts = {here: Layout(number, on_cpu=processes.device.type == "cpu")}
        layouts |= {} if settings.model.kind == "tiny" else GPU_LAYOUTS
        sections = _describe_size(settings, stage, model, layouts)
        progress.advance(note="playing gold")
        with open_runner(settings, tokenizer=tokenizer) as runner:
            runner.peaks_dir = None  # nothing is written
            gold, careful = (_play(runner, stage, name) for name in ("gold", "careful"))
        row, chat = make_rows(gold, advantage=0.0)[0], runner.chat
        progress.advance(note="measuring the model's speed")
        count = count_parameters(model)
        sections |= {
            "time (estimate)": _describe_time(settings, stage, tokenizer, chat, count, careful),
            "one episode of gold": _describe_episode(gold),
            "first prompt as text": chat.decode(row.token_ids_T[: gold.turns[0].prompt_end]),
            "first segment as tokens, with its loss mask": _describe_mask(row, chat),
        }
        progress.advance(note="done")
    return sections, is_solved(gold)


def _print(sections: dict[str, str]) -> None:
    for title, text in sections.items():
        sys.stdout.write(f"== {title} ==\n{text.rstrip()}\n\n")


def _play(runner: RolloutRunner, stage: Stage, name: str) -> Episode:
    """Play a script on the first training task, in the window of the stage's first group.

    Raises:
        InfrastructureError: The machine broke it.
    """
    task_id = runner.store.split("train")[0].id
    options = _THRIFTY if name == "careful" else None
    episode = runner.play_all(
        runner.draw_requests([task_id], stage=stage),
        lambda request: runner.make_script(task_id, name, options=options),
        policy=name,
        concurrency=1,
    )[0]
    if episode.outcome is not None and episode.outcome.unscorable is not None:
        raise InfrastructureError(episode.outcome.unscorable)
    return episode


def _describe_size(
    settings: Settings, stage: Stage, model: Any, layouts: dict[str, Layout]
) -> dict[str, str]:
    count, grpo, sft = count_parameters(model), settings.grpo, settings.sft
    frozen = count.total - count.trainable
    size = f"{settings.model.base}: {count}" + (f"; {frozen:,} in the base" if frozen else "")
    if stage == "sft":
        work = (
            f"{sft.num_demonstrations:,} demonstrations, {sft.epochs:g} epochs, about "
            f"{sft.tokens_per_batch:,} tokens per step"
        )
    else:
        work = (
            f"{grpo.groups_per_step} groups x {grpo.group_size} = {episodes_per_step(settings)} "
            f"episodes per step, {grpo.max_steps} steps, updates in each: "
            f"{grpo.updates_per_rollout}"
        )
        if grpo.resample:
            work += f"; up to {grpo.resample} further groups a step for those without signal"
    columns = estimate_layouts(settings, stage, model, layouts)
    sections = {
        "configuration": dump_settings(settings),
        "parameters": f"{size}\n{work}\n"
        f"micro-batches of {grpo.tokens_per_microbatch:,} tokens per device",
        "memory per device (estimate)": format_memory(columns, model),
    }
    if stage == "grpo" and settings.model.kind != "tiny":
        shape = model.config
        sections["time on GPUs (estimate)"] = describe_gpu_time(settings, shape=shape, count=count)
        on_gpus = {title: columns[title] for title in columns if title in GPU_LAYOUTS}
        sections["vLLM servers (estimate)"] = describe_servers(
            settings, shape=shape, count=count, trainers=on_gpus
        )
    return sections


def _describe_time(
    settings: Settings,
    stage: Stage,
    tokenizer: Any,
    chat: ChatFormat,
    count: ParameterCount,
    like: Episode,
) -> str:
    """Measure the model at hand, and tell how long the stage takes if episodes are `like` one."""
    processes, tiny = PartialState(), settings.model.kind == "tiny"
    if settings.model.kind == "hub" and base_source(settings) == settings.model.base:
        return "unknown: the weights are not on this machine yet"
    if processes.device.type == "cpu" and count.total > LARGEST_ON_CPU:
        return "unknown: too large to measure on a CPU"
    base = random_tiny(settings, tokenizer) if tiny else load_base(settings)
    model = make_trainable(settings, base, stage).to(processes.device)
    rows = [row.token_ids_T for row in make_rows(like, advantage=0.0)]
    speed = measure_speed(model, chat=chat, settings=settings, row=max(rows, key=len))
    sampled, trained = sampled_tokens(like), sum(map(len, rows))
    further = settings.grpo.resample if stage == "grpo" else 0
    seconds, most = (
        estimate_seconds(
            settings,
            stage,
            speed=speed,
            sampled_tokens=sampled,
            row_tokens=trained,
            world_size=processes.num_processes,
            num_further=num,
        )
        for num in (0, further)
    )
    each = f", {duration(seconds / settings.grpo.max_steps)} per step" if stage == "grpo" else ""
    if further:
        each += f" (up to {duration(most)} with all {further} further groups of each step)"
    return (
        f"about {duration(seconds)} in all{each}, if episodes are like one of `careful` "
        f"({sampled} tokens sampled, {trained} trained on)\n"
        f"measured just now: {speed.generated:,.0f} tokens/s generated, "
        f"{speed.trained:,.0f} tokens/s trained; larger batches are faster, "
        "running the tests is not counted"
    )


def _describe_episode(gold: Episode) -> str:
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


def _describe_mask(row: Segment, chat: ChatFormat) -> str:
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
