"""`grpo.trl`: which arguments of TRL's `GRPOConfig` pass through, and why the others do not.

What passes is a short list, each with a proof in tests/train/config/test_every_trl_argument.py that
it changes something in the training as we drive it; whatever a newer TRL adds is refused until it
has one. Whether a value of the right type is one that TRL accepts shows when a stage opens,
`--dry-run` included.

Tests: tests/train/config/test_every_trl_argument.py.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ConfigDict
from typing_extensions import TypedDict

from envs.errors import suggest

# Upper clip of the ratio: DAPO (arXiv 2503.14476, 3.1) clips at 1 + 0.28. CISPO (arXiv 2506.13585)
# clamps the ratio itself, and TRL takes this very value as the ceiling (not 1 + it).
EPSILON_LOW: Final = 0.2
EPSILON_HIGH: Final[dict[str, float]] = {"dapo": 0.28, "cispo": 5.0}
WARMUP_STEPS: Final = 3


class TrlArguments(TypedDict, total=False):
    """Arguments that pass: optimizer, schedule, loss and speed."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    optim: Any
    optim_args: str | None
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    weight_decay: float
    max_grad_norm: float
    lr_scheduler_type: Any
    lr_scheduler_kwargs: dict[str, Any] | str | None
    warmup_steps: float
    loss_type: str
    epsilon: float
    epsilon_high: float | None
    use_bias_correction_kl: bool
    torch_compile: bool
    torch_compile_backend: str | None
    torch_compile_mode: str | None
    tf32: bool | None


_OURS: Final = {
    "output_dir": "run.dir",
    "run_name": "run.name",
    "report_to": "run.report_to",
    "per_device_train_batch_size": "grpo.groups_per_step and grpo.group_size",
    "auto_find_batch_size": "grpo.groups_per_step and grpo.group_size",
    "num_generations": "grpo.group_size",
    "max_steps": "grpo.max_steps",
    "num_iterations": "grpo.updates_per_rollout",
    "vllm_importance_sampling_mode": "grpo.importance_weights",
    "vllm_importance_sampling_correction": "grpo.importance_weights",
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
    "activation_checkpointing_kwargs": "model.gradient_checkpointing",
    "gradient_checkpointing_kwargs": "model.gradient_checkpointing",
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
        "gradient_accumulation_steps steps_per_generation generation_batch_size "
        "importance_sampling_level top_entropy_quantile entropy_ use_adaptive_entropy "
        "off_policy_mask_threshold router_aux_loss_coef average_tokens_across_devices "
        "use_liger_kernel liger_kernel_config label_smoothing_factor"
    ),
    "it belongs to a loss that would weigh an episode by its number of rows": "sapo_ vespo_",
    "dapo and cispo clip the ratio as published, by epsilon and epsilon_high": "delta",
    "the loss is computed under exactly the weights and the context that sampled": (
        "neftune_noise_alpha disable_dropout cast_lm_head_to_fp32"
    ),
    "the reference is the adapter that GRPO starts from": (
        "sync_ref_model ref_model_mixup_alpha ref_model_sync_steps"
    ),
    "one LoRA adapter is trained, on a base that stays as it is": (
        "optim_target_modules trust_remote_code"
    ),
    "episodes are sampled by Tightrope, at temperature 1 and without cuts": (
        "temperature top_ min_p repetition_penalty generation_kwargs cache_implementation "
        "chat_template_kwargs use_vllm vllm_ use_transformers_ transformers_continuous_ use_cache "
        "mask_truncated_completions max_tool_calling_iterations num_generations_eval pad_to_ "
        "ds3_gather_for_generation"
    ),
    "the rows of a step have a fixed order": (
        "shuffle_dataset remove_unused_columns dataloader_ train_sampling_strategy label_names "
        "length_column_name ignore_data_skip"
    ),
    "Tightrope evaluates, logs and saves by itself, one metrics row per step": (
        "eval_ per_device_eval_batch_size do_ load_best_model_at_end metric_for_best_model "
        "greater_is_better logging_ log_ disable_tqdm push_to_hub hub_ save_ bf16_full_eval "
        "fp16_full_eval prediction_loss_only include_ batch_eval_metrics skip_memory_metrics "
        "num_completions_to_print restore_callback_states_from_checkpoint enable_jit_checkpoint"
    ),
    "the tracker that run.report_to names takes it from its own variables, such as WANDB_PROJECT": (
        "project trackio_"
    ),
    "the launcher decides on devices: `accelerate launch --config_file ...`": (
        "use_cpu ddp_ deepspeed fsdp fsdp_config local_rank accelerator_config parallelism_config"
    ),
    "it would change nothing in a step of Tightrope's own": "torch_empty_cache_steps debug",
}
"""Others that do not pass, and why; a name that ends in `_` stands for all that begin so."""


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


def explain_refusal(name: str) -> str:
    """Say why an argument that is not among `TrlArguments` cannot pass."""
    if name in _OURS:
        return f"derived; set {_OURS[name]} instead"
    for reason, names in _REASONS.items():
        for known in names.split():
            if name == known or (known.endswith("_") and name.startswith(known)):
                return f"fixed: {reason}"
    return f"unknown key; {suggest(name, TrlArguments.__annotations__)}"
