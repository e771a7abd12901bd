"""Impossible combinations of settings: each value is fine, together they cannot work.

`load_settings` refuses them, so no command meets one later. A value that could change
nothing beside another one counts as such, unless it is the default: nobody chose that. Bounds
(`generation_batch`, `max_sampled_tokens`) may be loose. What depends on the machine (memory,
devices, the tokenizer's real prompt length) is left to `--dry-run`.

Tests: tests/train/config/test_load.py.
"""

from collections.abc import Iterator
from typing import NamedTuple, get_args

from envs.context.strategies import MASKING
from envs.errors import UserError, suggest
from envs.records import Difficulty
from envs.tools import NAMES, list_tools
from rewards.advantages import Method
from train.config.section import Section
from train.config.settings import OfLeastPeak, Settings, TaskSettings
from train.config.trl_arguments import EPSILON_HIGH, with_defaults
from train.config.user_functions import find_fault

# Least room for system prompt, task and one observation beside two outputs (a call, and `compact`).
MIN_VIEW_TOKENS = 128
FULL_SCHEMA_TOKENS = 900  # eleven full tool schemas in Qwen's vocabulary (measured)
SOURCES = ("synthetic", "projects")
FILES_OF_PROJECTS = range(2, 5)  # each few of n bugs is run alone: 14 times for 4, 254 for 8
MIN_FORCED_SHARE = 0.3  # of demonstrations whose window needs a rewrite
_UNSERVED = ("lm_head", "embed_tokens", "wte", "embed_out")  # vLLM: no adapter on head, embedding
_UNREAD = {  # arguments of `grpo.trl` that an optimizer does not read
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused"), ("optim_args",)),
    **dict.fromkeys(
        ("sgd", "adagrad", "rmsprop", "adafactor"), ("adam_beta1", "adam_beta2", "adam_epsilon")
    ),
}
_NO_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")  # transformers.optimization


class Conflict(NamedTuple):
    """An impossible combination: the fields that cannot stand together, and why."""

    fields: tuple[str, ...]
    reason: str


def check_groups(groups_per_step: int, group_size: int, world_size: int) -> None:
    """Refuse groups that cannot be dealt out evenly: batch sizes are stated for all processes.

    Raises:
        UserError: Groups do not divide among the processes, or a group is too small.
    """
    if groups_per_step % world_size:
        got = f"{groups_per_step} groups, {world_size} processes"
        remedy = "set grpo.groups_per_step to a multiple of the number of processes"
        raise UserError("groups do not divide among the processes", got=got, remedy=remedy)
    if group_size < 2:
        remedy = "set grpo.group_size to 2 or more: the baseline is the group's mean"
        raise UserError("a group needs at least 2 episodes", got=str(group_size), remedy=remedy)


def find_conflicts(settings: Settings) -> Iterator[Conflict]:
    """Yield every combination of valid values that cannot work together."""
    yield from _base_conflicts(settings)
    yield from _precision_conflicts(settings)
    yield from _server_conflicts(settings)
    yield from _reward_conflicts(settings)
    yield from _demonstration_conflicts(settings)
    yield from _strategy_conflicts(settings)
    yield from _task_conflicts(settings)
    yield from _trl_conflicts(settings)
    yield from _loss_conflicts(settings)
    yield from _window_conflicts(settings)


def _is_given(section: Section, field: str) -> bool:
    """Tell whether a field was chosen: a resolved configuration holds all, as defaults."""
    return bool(getattr(section, field) != type(section).model_fields[field].default)


def _base_conflicts(settings: Settings) -> Iterator[Conflict]:
    model, is_tiny = settings.model, settings.model.kind == "tiny"
    if settings.prompt.tools == "none" and model.kind in ("hub", "shipped"):
        reason = f"{model.base} was not trained on our tools; use 'brief' or 'full'"
        yield Conflict(("prompt.tools", "model.base"), reason)
    if not is_tiny and _is_given(model, "tiny"):
        reason = f"{model.base} has a shape of its own; leave model.tiny out, or use base 'tiny'"
        yield Conflict(("model.tiny", "model.base"), reason)
    if is_tiny and settings.prompt.template_args:
        reason = "tiny's own template takes none"
        yield Conflict(("prompt.template_args", "model.base"), reason)
    if is_tiny and settings.grpo.start_from == "base":
        reason = "the tiny model has no pretrained weights to start from; use 'sft' or a path"
        yield Conflict(("grpo.start_from", "model.base"), reason)
    if is_tiny and model.load_in_4bit:
        reason = "the tiny model is trained whole, and 4-bit weights cannot be; use false"
        yield Conflict(("model.load_in_4bit", "model.base"), reason)
    if is_tiny and model.chat_template not in (None, "tiny"):
        reason = "the tiny model's tokenizer is made for its own template; use 'tiny' or null"
        yield Conflict(("model.chat_template", "model.base"), reason)
    targets = model.lora_targets
    unserved = [name for name in targets if name.split(".")[-1] in _UNSERVED]
    if unserved:
        reason = f"vLLM serves no adapter on {unserved[0]}; leave it out"
        yield Conflict(("model.lora_targets",), reason)
    elif "all-linear" in targets and len(targets) > 1:
        reason = "all-linear stands for all of them; use it alone, or name each module"
        yield Conflict(("model.lora_targets",), reason)


def _precision_conflicts(settings: Settings) -> Iterator[Conflict]:
    model, attention = settings.model, settings.model.attn_implementation
    for name, lossy in {"precision": "bf16", "dtype": "bfloat16", "load_in_4bit": True}.items():
        if settings.run.deterministic and getattr(model, name) == lossy:
            reason = "deterministic runs need fp32: results of bf16 depend on the batch"
            yield Conflict(("run.deterministic", f"model.{name}"), reason)
    if attention.startswith("flash_attention"):
        if model.kind == "tiny":
            reason = f"{attention} takes no float32, as the warm start of tiny is; use sdpa"
            yield Conflict(("model.attn_implementation", "model.base"), reason)
        elif model.dtype == "float32":
            reason = f"{attention} takes no float32; use sdpa, or dtype bfloat16"
            yield Conflict(("model.attn_implementation", "model.dtype"), reason)


def _server_conflicts(settings: Settings) -> Iterator[Conflict]:
    rollouts = settings.rollouts
    starting = ("start", "python", "gpus", "port", "server_args")
    given = [name for name in starting if _is_given(rollouts, name)]
    if rollouts.servers:
        for name in given:
            reason = "it shapes servers that are started, and these run already; leave one out"
            yield Conflict((f"rollouts.{name}", "rollouts.servers"), reason)
        given = ["servers"]
    if rollouts.backend == "transformers":
        for name in (*given, *(["adapter_dir"] if rollouts.adapter_dir else [])):
            reason = "transformers asks no server; leave it out, or use 'vllm'"
            yield Conflict((f"rollouts.{name}", "rollouts.backend"), reason)
        return
    wants = rollouts.backend == "vllm" or rollouts.start is not None or bool(rollouts.servers)
    if wants and settings.run.deterministic:
        reason = "a server's results depend on the batch; use rollouts.backend 'transformers'"
        yield Conflict(("run.deterministic", "rollouts.backend"), reason)
    if wants and settings.model.load_in_4bit:
        reason = "a server holds the base whole, and would be another policy; use 'transformers'"
        yield Conflict(("model.load_in_4bit", "rollouts.backend"), reason)
    if rollouts.start and rollouts.gpus is not None and len(rollouts.gpus) != rollouts.start:
        reason = f"{rollouts.start} servers on {len(rollouts.gpus)} GPUs; each takes one"
        yield Conflict(("rollouts.start", "rollouts.gpus"), reason)


def _reward_conflicts(settings: Settings) -> Iterator[Conflict]:
    reward, source = settings.reward, settings.tasks.source
    if reward.pressure == "controlled" and not reward.cost_weight:
        reason = "a weight of 0 cannot be controlled; use 'fixed', or start with 0.3"
        yield Conflict(("reward.pressure", "reward.cost_weight"), reason)
    for name, remedy in {"cost_weight": "use 0", "pressure": "use 'fixed'"}.items():
        is_given = getattr(reward, name) and _is_given(reward, name)  # a weight of 0 says the same
        if reward.advantage == "outcome_only" and is_given:
            reason = f"outcome_only lets cost be free; {remedy}, or another advantage"
            yield Conflict((f"reward.{name}", "reward.advantage"), reason)
    if reward.second_runner_share and source == "synthetic" and settings.tasks.dir is None:
        reason = "synthetic tasks have the io grader, and one runner; use 0, or source 'projects'"
        yield Conflict(("reward.second_runner_share", "tasks.source"), reason)
    keywords = ("scores", "cost_weight")
    if fault := find_fault(reward.advantage, names=get_args(Method), keywords=keywords):
        yield Conflict(("reward.advantage",), fault)


def _demonstration_conflicts(settings: Settings) -> Iterator[Conflict]:
    share = settings.sft.needs_rewrite_share
    if settings.context.strategy == "full_history":
        if share:
            reason = "full_history cannot rewrite, so no window can force it to; use 0"
            yield Conflict(("sft.needs_rewrite_share", "context.strategy"), reason)
    elif (
        "compact" in list_tools(settings.context.strategy)
        and settings.tasks.source == "synthetic"
        and settings.tasks.dir is None
        and share < MIN_FORCED_SHARE
    ):
        reason = f"{share:g} is too few to learn to rewrite; use {MIN_FORCED_SHARE:g}"
        yield Conflict(("sft.needs_rewrite_share", "tasks.source"), reason)
    if share + settings.sft.wasteful_share > 1:
        reason = "wasteful ones have no room where a rewrite is needed; use at most 1 together"
        yield Conflict(("sft.needs_rewrite_share", "sft.wasteful_share"), reason)


def _strategy_conflicts(settings: Settings) -> Iterator[Conflict]:
    context, strategy = settings.context, settings.context.strategy
    readers = {
        "fill_threshold": ("mask", "summarize", "hybrid"),
        "keep_last": MASKING,
        "evict_batch": MASKING,
    }
    for name, strategies in readers.items():
        if strategy not in strategies and _is_given(context, name):
            reason = f"{strategy} does not read it; leave it out, or use {' or '.join(strategies)}"
            yield Conflict((f"context.{name}", "context.strategy"), reason)
    for each in context.without:
        if ("note" if each == "plan" else each) not in list_tools(strategy):
            reason = f"{strategy} has no {each} to take away; leave it out"
            yield Conflict(("context.without", "context.strategy"), reason)
    for name in ("fill_threshold", "keep_last"):
        low, high = getattr(context, name)
        if low > high:
            yield Conflict((f"context.{name}",), f"the least, {low}, is above the most, {high}")


def _length_conflicts(tasks: TaskSettings) -> Iterator[Conflict]:
    if tasks.source == "synthetic":
        if _is_given(tasks, "distractors") and not tasks.length:
            reason = "they stand beside long tasks; name those in tasks.length"
            yield Conflict(("tasks.distractors", "tasks.length"), reason)
    elif tasks.length and tasks.source != "projects":
        reason = f"long tasks are of synthetic and of projects, not of {tasks.source}; leave it out"
        yield Conflict(("tasks.length", "tasks.source"), reason)
    elif set(tasks.length) - set(FILES_OF_PROJECTS):
        most = max(FILES_OF_PROJECTS)
        reason = f"of projects bugs are combined in 2 to {most} files; more takes too many runs"
        yield Conflict(("tasks.length", "tasks.source"), reason)


def _task_conflicts(settings: Settings) -> Iterator[Conflict]:
    evaluate, tasks = settings.evaluate, settings.tasks
    if fault := find_fault(tasks.source, names=SOURCES, keywords=("split", "seed")):
        yield Conflict(("tasks.source",), fault)
    for name in ("two_site_share", "max_size", "distractors"):
        if tasks.source != "synthetic" and _is_given(tasks, name):
            reason = f"it shapes generated projects, not those of {tasks.source}; leave it out"
            yield Conflict((f"tasks.{name}", "tasks.source"), reason)
    yield from _length_conflicts(tasks)
    for name, (low, high) in tasks.difficulty.items():
        if name not in Difficulty.model_fields:
            reason = f"tasks have no such measure; {suggest(name, Difficulty.model_fields)}"
            yield Conflict((f"tasks.difficulty.{name}",), reason)
        elif low > high:
            reason = f"the least, {low}, is above the most, {high}"
            yield Conflict((f"tasks.difficulty.{name}",), reason)
    if tasks.recorded_calls == "required" and tasks.source == "synthetic" and tasks.dir is None:
        reason = "synthetic tasks have the io grader, which needs none; use 'used'"
        yield Conflict(("tasks.recorded_calls", "tasks.source"), reason)
    available: int = getattr(tasks, evaluate.split)
    if evaluate.num_tasks > available:
        reason = f"{evaluate.num_tasks} tasks to evaluate, {available} in the split"
        yield Conflict(("evaluate.num_tasks", f"tasks.{evaluate.split}"), reason)
    if tasks.train and not tasks.dev:
        reason = "the gate before GRPO needs dev tasks; use some, or 0 of both to evaluate only"
        yield Conflict(("tasks.dev", "tasks.train"), reason)


def _trl_conflicts(settings: Settings) -> Iterator[Conflict]:
    given = settings.grpo.trl
    if "use_bias_correction_kl" in given and not settings.grpo.kl_weight:
        reason = "a weight of 0 leaves nothing to correct; leave it out"
        yield Conflict(("grpo.trl.use_bias_correction_kl", "grpo.kl_weight"), reason)
    optim = str(given.get("optim", "adamw_torch"))
    for name in _UNREAD.get(optim, ()):
        if name in given:
            reason = f"{optim} does not read it; leave it out"
            yield Conflict((f"grpo.trl.{name}", "grpo.trl.optim"), reason)
    schedule = str(given.get("lr_scheduler_type", "constant_with_warmup"))
    if schedule in _NO_WARMUP and "warmup_steps" in given:
        reason = f"{schedule} has no warm-up; use constant_with_warmup"
        yield Conflict(("grpo.trl.warmup_steps", "grpo.trl.lr_scheduler_type"), reason)
    if schedule.startswith("constant") and "lr_scheduler_kwargs" in given:
        reason = f"{schedule} does not read it; leave it out"
        yield Conflict(("grpo.trl.lr_scheduler_kwargs", "grpo.trl.lr_scheduler_type"), reason)


def _loss_conflicts(settings: Settings) -> Iterator[Conflict]:
    grpo, trl = settings.grpo, with_defaults(settings.grpo.trl)
    if settings.rollouts.max_staleness and grpo.importance_weights == "off":
        reason = "what an older policy sampled is trained wrongly without weights; use 'auto'"
        yield Conflict(("grpo.importance_weights", "rollouts.max_staleness"), reason)
    updates, groups = grpo.updates_per_rollout, grpo.groups_per_step
    if groups % updates:
        reason = f"{groups} groups do not divide among {updates} updates; use a divisor"
        yield Conflict(("grpo.updates_per_rollout", "grpo.groups_per_step"), reason)
    if updates == 1:
        unread: list[str] = [name for name in ("epsilon", "epsilon_high") if name in grpo.trl]
        if trl["loss_type"] == "cispo":
            unread.append("loss_type")
        for name in unread:
            reason = "in the one update per rollout there is nothing to clip yet; use 2, or leave "
            yield Conflict((f"grpo.trl.{name}", "grpo.updates_per_rollout"), f"{reason}it out")
    loss_type, low, high = trl["loss_type"], trl["epsilon"], trl["epsilon_high"]
    if loss_type not in EPSILON_HIGH:
        remedy = f"use {' or '.join(EPSILON_HIGH)}"
        reason = f"{loss_type} would weigh an episode by its number of rows; {remedy}"
        yield Conflict(("grpo.trl.loss_type",), reason)
    elif loss_type == "cispo" and "epsilon" in grpo.trl:
        reason = "cispo has no lower clip; leave it out"
        yield Conflict(("grpo.trl.epsilon", "grpo.trl.loss_type"), reason)
    elif not 0 < low < 1:
        yield Conflict(("grpo.trl.epsilon",), f"{low} is not between 0 and 1")
    elif high < low:
        reason = f"the upper clip {high} is below the lower one {low}"
        yield Conflict(("grpo.trl.epsilon_high", "grpo.trl.epsilon"), reason)
    elif loss_type == "cispo" and high < 1:
        reason = f"cispo cuts each token's weight at {high}; use at least 1 (5.0)"
        yield Conflict(("grpo.trl.epsilon_high", "grpo.trl.loss_type"), reason)


def _window_conflicts(settings: Settings) -> Iterator[Conflict]:
    context = settings.context
    asked = context.window_tokens
    if isinstance(asked, OfLeastPeak):
        yield from _ratio_conflicts(asked.of_least_peak, context.needs_rewrite_share)
        yield from _size_conflicts(settings, asked.at_most, asked.at_most)
    else:
        yield from _size_conflicts(settings, *asked)
    if context.max_sampled_tokens < context.max_new_tokens:
        reason = f"an episode of {context.max_sampled_tokens} cannot hold one turn"
        yield Conflict(("context.max_sampled_tokens", "context.max_new_tokens"), reason)
    highest = "its at_most" if isinstance(asked, OfLeastPeak) else "the largest"
    for field, budget in (
        ("grpo.tokens_per_microbatch", settings.grpo.tokens_per_microbatch),
        ("sft.tokens_per_batch", settings.sft.tokens_per_batch),
    ):
        if budget < settings.largest_window:
            reason = (
                f"a row may be as long as the largest window {settings.largest_window}, more than "
                f"{budget}; raise that, or lower {highest}"
            )
            yield Conflict((field, "context.window_tokens"), reason)


def _size_conflicts(settings: Settings, low: int, high: int) -> Iterator[Conflict]:
    context = settings.context
    if low > high:
        reason = f"the least window {low} is larger than the largest {high}"
        yield Conflict(("context.window_tokens",), reason)
    offered = list_tools(context.strategy, context.without)
    num_tools = len(offered) if settings.prompt.tools == "full" else 0
    schemas = FULL_SCHEMA_TOKENS * num_tools // len(NAMES)
    least = 2 * context.max_new_tokens + MIN_VIEW_TOKENS + schemas
    if low < least:
        reason = (
            f"a window of {low} cannot hold two outputs of {context.max_new_tokens}, "
            f"{MIN_VIEW_TOKENS} for the task and {schemas} for tool schemas; use at least {least}"
        )
        fields = ("context.window_tokens", "context.max_new_tokens", "prompt.tools")
        yield Conflict(fields, reason)


def _ratio_conflicts(ratios: tuple[float, float], share: float | None) -> Iterator[Conflict]:
    low, high = ratios
    if low > high:
        reason = f"the least ratio {low:g} is larger than the largest {high:g}"
        yield Conflict(("context.window_tokens",), reason)
    elif share and low >= 1:
        reason = "windows of the least peak and more need no rewrite; begin below 1, or use 0"
        yield Conflict(("context.needs_rewrite_share", "context.window_tokens"), reason)
    elif share is not None and share < 1 and high < 1:
        reason = "windows below the least peak all need a rewrite; end at 1 or more, or use 1"
        yield Conflict(("context.needs_rewrite_share", "context.window_tokens"), reason)
