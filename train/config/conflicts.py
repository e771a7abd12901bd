"""Impossible combinations of settings: each value is fine, together they cannot work.

`load_settings` refuses them, so no command meets one later. A value that could change
nothing beside another one counts as such, unless it is the default: that was not asked for. Bounds
(`generation_batch`, `max_sampled_tokens`) may be loose. What depends on the machine (memory,
devices, the tokenizer's real prompt length) is left to `--dry-run`.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple, get_args

from envs.errors import UserError
from envs.records import Difficulty
from envs.tools import NAMES, offered
from rewards.advantages import Method
from train.config.settings import Section, Settings
from train.config.trl_arguments import EPSILON_HIGH, find_problems, with_defaults
from train.config.user_functions import find_fault

# Least room for system prompt, task and one observation beside two outputs (a call, and `compact`).
MIN_VIEW_TOKENS = 128
FULL_SCHEMA_TOKENS = 900  # eleven full tool schemas in Qwen's vocabulary (measured)
SOURCES = ("synthetic", "projects")
MIN_FORCED_SHARE = 0.3  # of demonstrations whose window forces a rewrite
_UNSERVED = ("lm_head", "embed_tokens", "wte", "embed_out")  # vLLM: no adapter on head, embedding
_NO_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")  # transformers.optimization
_OF_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")


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


def find_conflicts(settings: Settings) -> list[Conflict]:
    """Return every combination of valid values that cannot work together."""
    return [
        *_base_conflicts(settings),
        *_precision_conflicts(settings),
        *_reward_conflicts(settings),
        *_strategy_conflicts(settings),
        *_source_conflicts(settings),
        *_trl_conflicts(settings),
        *_function_conflicts(settings),
        *_difficulty_conflicts(settings),
        *_window_conflicts(settings),
        *_count_conflicts(settings),
    ]


def _is_given(section: Section, field: str) -> bool:
    """Tell whether a field was asked for: a resolved configuration holds all, as defaults."""
    return bool(getattr(section, field) != type(section).model_fields[field].default)


def _base_conflicts(settings: Settings) -> list[Conflict]:
    model, found = settings.model, []
    if settings.prompt.tools == "none" and model.kind in ("hub", "shipped"):
        reason = f"{model.base} was never told of our tools; use 'brief' or 'full'"
        found.append(Conflict(("prompt.tools", "model.base"), reason))
    if settings.prompt.template_args and model.kind == "tiny":
        found.append(
            Conflict(("prompt.template_args", "model.base"), "tiny's own template takes none")
        )
    if settings.grpo.start_from == "base" and model.kind == "tiny":
        reason = "the tiny model has no pretrained weights to start from; use 'sft' or a path"
        found.append(Conflict(("grpo.start_from", "model.base"), reason))
    if model.load_in_4bit and model.kind == "tiny":
        reason = "the tiny model is trained whole, and 4-bit weights cannot be; use false"
        found.append(Conflict(("model.load_in_4bit", "model.base"), reason))
    if model.kind != "tiny" and _is_given(model, "tiny"):
        reason = f"{model.base} has a shape of its own; leave model.tiny out, or use base 'tiny'"
        found.append(Conflict(("model.tiny", "model.base"), reason))
    if model.kind == "tiny" and model.chat_template not in (None, "tiny"):
        reason = "the tiny model's tokenizer is made for its own template; use 'tiny' or null"
        found.append(Conflict(("model.chat_template", "model.base"), reason))
    return [*found, *_target_conflicts(model.lora_targets)]


def _target_conflicts(targets: Sequence[str]) -> list[Conflict]:
    unserved = [name for name in targets if name.split(".")[-1] in _UNSERVED]
    if unserved:
        reason = f"vLLM serves no adapter on {unserved[0]}; leave it out"
    elif "all-linear" in targets and len(targets) > 1:
        reason = "all-linear stands for all of them; use it alone, or name each module"
    else:
        return []
    return [Conflict(("model.lora_targets",), reason)]


def _precision_conflicts(settings: Settings) -> list[Conflict]:
    model, found = settings.model, []
    if settings.run.deterministic:
        lossy = {"precision": "bf16", "dtype": "bfloat16", "load_in_4bit": True}
        for name, value in lossy.items():
            if getattr(model, name) == value:
                reason = "deterministic runs need fp32: results of bf16 depend on the batch"
                found.append(Conflict(("run.deterministic", f"model.{name}"), reason))
    if model.attn_implementation.startswith("flash_attention"):
        reason = f"{model.attn_implementation} takes no float32; use sdpa, or "
        if model.kind == "tiny":
            reason = f"the warm start of tiny is float32: {reason}another base"
            found.append(Conflict(("model.attn_implementation", "model.base"), reason))
        elif model.dtype == "float32":
            fields = ("model.attn_implementation", "model.dtype")
            found.append(Conflict(fields, f"{reason}dtype bfloat16"))
    return found


def _reward_conflicts(settings: Settings) -> list[Conflict]:
    reward, found = settings.reward, []
    if reward.pressure == "controlled" and not reward.cost_weight:
        reason = "a weight of 0 cannot be controlled; use 'fixed', or start with 0.3"
        found.append(Conflict(("reward.pressure", "reward.cost_weight"), reason))
    if reward.advantage == "outcome_only":
        remedies = {"cost_weight": "use 0", "pressure": "use 'fixed'"}
        for name, remedy in remedies.items():
            if getattr(reward, name) and _is_given(reward, name):  # a weight of 0 says the same
                reason = f"outcome_only lets cost be free; {remedy}, or another advantage"
                found.append(Conflict((f"reward.{name}", "reward.advantage"), reason))
    return found


def _strategy_conflicts(settings: Settings) -> list[Conflict]:
    share = settings.sft.forced_share
    if settings.context.strategy == "full_history":
        if share:
            reason = "full_history cannot rewrite, so no window can force it to; use 0"
            return [Conflict(("sft.forced_share", "context.strategy"), reason)]
    elif settings.tasks.source == "synthetic" and share < MIN_FORCED_SHARE:
        reason = f"{share:g} is too few to learn to rewrite; use {MIN_FORCED_SHARE:g}"
        return [Conflict(("sft.forced_share", "tasks.source"), reason)]
    return []


def _source_conflicts(settings: Settings) -> list[Conflict]:
    tasks, found = settings.tasks, []
    for name in ("two_site_share", "max_size"):
        if tasks.source != "synthetic" and _is_given(tasks, name):
            reason = f"it shapes generated projects, not those of {tasks.source}; leave it out"
            found.append(Conflict((f"tasks.{name}", "tasks.source"), reason))
    if settings.reward.second_runner_share and tasks.source == "synthetic" and tasks.dir is None:
        reason = "synthetic tasks have the io grader, and one runner; use 0, or source 'projects'"
        found.append(Conflict(("reward.second_runner_share", "tasks.source"), reason))
    return found


def _trl_conflicts(settings: Settings) -> list[Conflict]:
    given = settings.grpo.trl
    found = [Conflict((f"grpo.trl.{name}",), fault) for name, fault in find_problems(given)]
    if found:
        return found
    trl = with_defaults(given)
    found += _trl_pairs(settings)
    loss_type, low, high = trl["loss_type"], trl["epsilon"], trl["epsilon_high"]
    if loss_type not in EPSILON_HIGH:
        reason = (
            f"{loss_type} would weigh an episode by its number of rows; "
            f"use {' or '.join(EPSILON_HIGH)}"
        )
        found.append(Conflict(("grpo.trl.loss_type",), reason))
    elif not 0 < low < 1:
        found.append(Conflict(("grpo.trl.epsilon",), f"{low} is not between 0 and 1"))
    elif high < low:
        reason = f"the upper clip {high} is below the lower one {low}"
        found.append(Conflict(("grpo.trl.epsilon_high", "grpo.trl.epsilon"), reason))
    elif loss_type == "cispo" and high < 1:
        reason = f"cispo cuts each token's weight at {high}; use at least 1 (5.0)"
        found.append(Conflict(("grpo.trl.epsilon_high", "grpo.trl.loss_type"), reason))
    return found


def _trl_pairs(settings: Settings) -> list[Conflict]:
    """Arguments that nothing reads beside another one."""
    given, found = settings.grpo.trl, []
    if "use_bias_correction_kl" in given and not settings.grpo.kl_weight:
        fields = ("grpo.trl.use_bias_correction_kl", "grpo.kl_weight")
        found.append(Conflict(fields, "a weight of 0 leaves nothing to correct; leave it out"))
    optim = str(given.get("optim", "adamw_torch"))
    unread: dict[str, tuple[str, ...]]
    unread = {"adamw_torch": ("optim_args",), "adamw_torch_fused": ("optim_args",)}
    unread |= dict.fromkeys(("sgd", "adagrad", "rmsprop", "adafactor"), _OF_ADAM)
    for name in unread.get(optim, ()):
        if name in given:
            fields = (f"grpo.trl.{name}", "grpo.trl.optim")
            found.append(Conflict(fields, f"{optim} does not read it; leave it out"))
    schedule = str(given.get("lr_scheduler_type", "constant_with_warmup"))
    if schedule in _NO_WARMUP and "warmup_steps" in given:
        fields = ("grpo.trl.warmup_steps", "grpo.trl.lr_scheduler_type")
        found.append(Conflict(fields, f"{schedule} has no warm-up; use constant_with_warmup"))
    if schedule.startswith("constant") and "lr_scheduler_kwargs" in given:
        fields = ("grpo.trl.lr_scheduler_kwargs", "grpo.trl.lr_scheduler_type")
        found.append(Conflict(fields, f"{schedule} does not read it; leave it out"))
    return found


def _function_conflicts(settings: Settings) -> list[Conflict]:
    advantage, source = settings.reward.advantage, settings.tasks.source
    faults = {
        "reward.advantage": find_fault(
            advantage, names=get_args(Method), keywords=("scores", "cost_weight")
        ),
        "tasks.source": find_fault(source, names=SOURCES, keywords=("split", "seed")),
    }
    return [Conflict((field,), fault) for field, fault in faults.items() if fault]


def _difficulty_conflicts(settings: Settings) -> list[Conflict]:
    found = []
    for name, (low, high) in settings.tasks.difficulty.items():
        field, known = f"tasks.difficulty.{name}", list(Difficulty.model_fields)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            told = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            found.append(Conflict((field,), f"tasks have no such measure; {told}"))
        elif low > high:
            found.append(Conflict((field,), f"the least, {low}, is above the most, {high}"))
    return found


def _window_conflicts(settings: Settings) -> list[Conflict]:
    context = settings.context
    low, high = context.window_tokens
    found = []
    if low > high:
        reason = f"the least window {low} is larger than the largest {high}"
        found.append(Conflict(("context.window_tokens",), reason))
    num_tools = len(offered(context.strategy)) if settings.prompt.tools == "full" else 0
    schemas = FULL_SCHEMA_TOKENS * num_tools // len(NAMES)
    least = 2 * context.max_new_tokens + MIN_VIEW_TOKENS + schemas
    if low < least:
        fields = ("context.window_tokens", "context.max_new_tokens", "prompt.tools")
        reason = (
            f"a window of {low} cannot hold two outputs of {context.max_new_tokens}, "
            f"{MIN_VIEW_TOKENS} for the task and {schemas} for tool schemas; use at least {least}"
        )
        found.append(Conflict(fields, reason))
    if context.max_sampled_tokens < context.max_new_tokens:
        reason = f"an episode of {context.max_sampled_tokens} cannot hold one turn"
        found.append(Conflict(("context.max_sampled_tokens", "context.max_new_tokens"), reason))
    for field, budget in (
        ("grpo.tokens_per_microbatch", settings.grpo.tokens_per_microbatch),
        ("sft.tokens_per_batch", settings.sft.tokens_per_batch),
    ):
        if budget < high:
            reason = f"a row may be as long as the largest window {high}, more than {budget}"
            found.append(Conflict((field, "context.window_tokens"), reason))
    return found


def _count_conflicts(settings: Settings) -> list[Conflict]:
    evaluate, tasks = settings.evaluate, settings.tasks
    available = tasks.test if evaluate.split == "test" else tasks.dev
    found = []
    if evaluate.num_tasks > available:
        fields = ("evaluate.num_tasks", f"tasks.{evaluate.split}")
        reason = f"{evaluate.num_tasks} tasks to evaluate, {available} in the split"
        found.append(Conflict(fields, reason))
    if tasks.train and not tasks.dev:
        reason = "the gate before GRPO needs dev tasks; use some, or 0 of both to evaluate only"
        found.append(Conflict(("tasks.dev", "tasks.train"), reason))
    return found
