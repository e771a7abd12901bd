"""`grpo.trl`: which arguments of TRL's `GRPOConfig` pass through, and why the others do not.

Names and types are read from the source of the installed packages, so that a wrong one is reported
with all other errors of the configuration, before TRL (and with it torch) is imported. Not checked:
whether a value of the right type is one that TRL accepts.
"""

import ast
import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

# Upper clip of the ratio: DAPO (arXiv 2503.14476, 3.1) clips at 1 + 0.28. CISPO (arXiv 2506.13585)
# clamps the ratio itself, and TRL takes this very value as the ceiling (not 1 + it).
EPSILON_LOW: Final = 0.2
EPSILON_HIGH: Final[dict[str, float]] = {"dapo": 0.28, "cispo": 5.0}
WARMUP_STEPS: Final = 3

_CLASSES: Final = (  # from the base down
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("trl", "trainer/grpo_config.py", "GRPOConfig"),
)

_OURS: Final = {
    "output_dir": "run.dir",
    "per_device_train_batch_size": "grpo.groups_per_step and grpo.group_size",
    "auto_find_batch_size": "grpo.groups_per_step and grpo.group_size",
    "num_generations": "grpo.group_size",
    "max_steps": "grpo.max_steps",
    "num_train_epochs": "grpo.max_steps",
    "learning_rate": "grpo.learning_rate",
    "beta": "grpo.kl_weight",
    "save_strategy": "checkpoints.every",
    "save_steps": "checkpoints.every",
    "save_total_limit": "checkpoints.keep",
    "seed": "run.seed",
    "data_seed": "run.seed",
    "full_determinism": "run.deterministic",
    "bf16": "model.precision",
    "fp16": "model.precision",
    "activation_checkpointing": "model.gradient_checkpointing",
    "gradient_checkpointing": "model.gradient_checkpointing",
    "model_init_kwargs": "model.dtype, model.attn_implementation or model.load_in_4bit",
    "scale_rewards": "reward.advantage",
    "reward_weights": "reward.advantage",
    "multi_objective_aggregation": "reward.advantage",
    "max_completion_length": "context.max_new_tokens",
    "resume_from_checkpoint": "--resume",
}
"""Arguments that we derive, and the setting that decides."""

_REASONS: Final = {
    "the gradient would depend on how episodes are cut into rows": (
        "gradient_accumulation_steps steps_per_generation num_iterations generation_batch_size "
        "importance_sampling_level top_entropy_quantile entropy_ use_adaptive_entropy "
        "off_policy_mask_threshold router_aux_loss_coef average_tokens_across_devices "
        "use_liger_kernel liger_kernel_config label_smoothing_factor"
    ),
    "episodes are sampled by Tightrope, at temperature 1 and without cuts": (
        "temperature top_ min_p repetition_penalty generation_kwargs cache_implementation "
        "chat_template_kwargs use_vllm vllm_ use_transformers_ transformers_continuous_ "
        "mask_truncated_completions max_tool_calling_iterations num_generations_eval pad_to_"
    ),
    "the rows of a step have a fixed order": (
        "shuffle_dataset remove_unused_columns dataloader_ train_sampling_strategy label_names "
        "length_column_name ignore_data_skip"
    ),
    "Tightrope evaluates, logs and saves by itself, one metrics row per step": (
        "eval_ per_device_eval_batch_size do_ load_best_model_at_end metric_for_best_model "
        "greater_is_better logging_ log_ disable_tqdm push_to_hub hub_ save_ "
        "num_completions_to_print restore_callback_states_from_checkpoint"
    ),
    "the launcher decides on devices: `accelerate launch --config_file ...`": (
        "use_cpu ddp_backend ddp_find_unused_parameters deepspeed fsdp local_rank "
        "accelerator_config parallelism_config"
    ),
}
"""Other arguments that do not pass, and why; a name that ends in `_` stands for all that begin so.

Of those that Tightrope sets, `lr_scheduler_type`, `weight_decay`, `report_to` and what `grpo.trl`
documents may be changed.
"""


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` completed by our own defaults."""
    loss_type = given.get("loss_type") or "dapo"
    defaults = {
        "loss_type": loss_type,
        "epsilon": EPSILON_LOW,
        "epsilon_high": EPSILON_HIGH.get(loss_type),
        "warmup_steps": WARMUP_STEPS,
    }
    return defaults | {name: value for name, value in given.items() if value is not None}


def converted(given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with values from the command line as numbers; wrong ones stay as they are."""
    return {name: _validated(name, value)[0] for name, value in given.items()}


def find_problems(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the fault of each argument that cannot pass through."""
    for name, value in given.items():
        if name not in argument_types():
            near = difflib.get_close_matches(name, argument_types(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield name, f"TRL's GRPOConfig has no such argument{hint}"
        elif name in _OURS:
            yield name, f"derived; set {_OURS[name]} instead"
        elif reason := _refusal(name):
            yield name, f"fixed: {reason}"
        elif fault := _validated(name, value)[1]:
            yield name, f"{fault} (got {value})"


@cache
def argument_types() -> dict[str, Any]:
    """Return the arguments of `GRPOConfig` with their types; `Any` where not a plain one."""
    found: dict[str, Any] = {}
    for package, file, name in _CLASSES:
        spec = find_spec(package)  # finds without importing
        assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
        source = (Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        found[item.target.id] = _type(item.annotation)
    return {name: kind for name, kind in found.items() if not name.startswith("_")}


def _refusal(name: str) -> str | None:
    for reason, names in _REASONS.items():
        for known in names.split():
            if name == known or (known.endswith("_") and name.startswith(known)):
                return reason
    return None


def _validated(name: str, value: Any) -> tuple[Any, str | None]:
    """Return the value in the argument's type, or the same value and what is wrong with it."""
    try:
        return TypeAdapter(argument_types().get(name, Any)).validate_python(value), None
    except ValidationError as error:
        text = error.errors()[0]["msg"]
        return value, f"{text[0].lower()}{text[1:]}"


def _type(annotation: ast.expr) -> Any:
    plain = {"bool": bool, "int": int, "float": float, "str": str, "dict": dict}
    match annotation:
        case ast.Name(id=name):
            return plain.get(name, Any)
        case ast.Constant(value=None):
            return NoneType
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = _type(left), _type(right)
            return Any if Any in parts else parts[0] | parts[1]
    return Any
