"""What stands on the terminal when a training stage begins: what is trained, on what, and where.

At most 12 lines; of 80 columns, but for paths and the command that goes on, which are not cut.

Tests: tests/train/recipes/test_panel.py.
"""

from accelerate import PartialState

from train.config.load import Command
from train.config.settings import Settings
from train.models.distributed import uses_deepspeed
from train.models.model import ParameterCount, trains_in_bf16
from train.rollouts.backend import choose_backend
from train.stages.run_dir import StageDir

Rows = dict[str, str]


def format_panel(title: str, rows: Rows) -> str:
    """Return the title and one aligned line for each row that says something."""
    shown = {name: text for name, text in rows.items() if text}
    width = max(map(len, shown))
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in shown.items())])


def describe_sft(
    command: Command, stage: StageDir, *, count: ParameterCount, lengths: list[int], num_steps: int
) -> str:
    """Return the panel of the warm start; `lengths` are the tokens of its rows."""
    settings = command.settings
    rows = {
        **_describe_model(settings, count),
        "data": f"{len(lengths):,} segments, {sum(lengths):,} tokens, longest {max(lengths):,}",
        "steps": f"{num_steps:,} of about {settings.sft.tokens_per_batch:,} tokens",
        **_describe_machine(settings),
        **_describe_place(command, stage),
    }
    return format_panel("Warm start", rows)


def describe_grpo(
    command: Command, stage: StageDir, *, count: ParameterCount, num_tasks: int
) -> str:
    """Return the panel of GRPO."""
    settings, grpo, context = command.settings, command.settings.grpo, command.settings.context
    episodes = grpo.groups_per_step * grpo.group_size
    updates = f", {grpo.updates_per_rollout} updates" if grpo.updates_per_rollout > 1 else ""
    updates += f", up to {grpo.resample} further groups" if grpo.resample else ""
    size = "bfloat16" if settings.model.dtype == "bfloat16" else "float32"
    size = "4 bits" if settings.model.load_in_4bit else size
    rows = {
        **_describe_model(settings, count),
        "tasks": f"{num_tasks:,} to train on",
        "steps": f"{grpo.max_steps:,} of {grpo.groups_per_step} groups x {grpo.group_size}"
        f" = {episodes} episodes{updates}",
        "window": f"{context.window_range}; at most {context.max_turns} turns of "
        f"{context.max_new_tokens:,} sampled tokens",
        "rollouts": f"{_describe_backend(settings)}; weights in {size}",
        **_describe_machine(settings),
        **_describe_place(command, stage),
    }
    return format_panel("GRPO", rows)


def _describe_backend(settings: Settings) -> str:
    if choose_backend(settings) == "transformers":
        return "transformers, in the training process"
    urls = settings.rollouts.servers
    return f"vllm at {', '.join(urls)}" if urls else "vllm, on servers that it starts"


def _describe_model(settings: Settings, count: ParameterCount) -> Rows:
    model = settings.model
    is_whole = count.trainable == count.total
    what = "all weights" if is_whole else f"LoRA, rank {model.lora_rank}"
    return {
        "model": f"{model.base}, {_round(count.total)} parameters",
        "trained": f"{what}: {_round(count.trainable)} parameters ({count.share:.2%})",
    }


def _describe_machine(settings: Settings) -> Rows:
    processes = PartialState()
    number = processes.num_processes
    spread = f"{number} processes" if number > 1 else "1 process"
    if number > 1:
        spread += ", DeepSpeed" if uses_deepspeed() else ", DDP"
    precision = "bf16" if trains_in_bf16(settings) else "fp32"
    tokens = settings.grpo.tokens_per_microbatch
    return {
        "training": f"{processes.device.type}, {precision}, {spread}; "
        f"micro-batches of {tokens:,} tokens",
    }


def _describe_place(command: Command, stage: StageDir) -> Rows:
    return {"files": str(stage.path), "to resume": command.again}


def _round(number: int) -> str:
    """Return a number with three digits, such as '3.15 B'."""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
