"""What TRL's trainer is told for GRPO: what settings say, what is fixed, and what must not differ.

Tests: tests/train/rl/test_grpo_trainer.py, tests/train/config/test_every_trl_argument.py.
"""

from pathlib import Path
from typing import Any

from accelerate import PartialState
from trl import GRPOConfig

from envs.errors import UserError
from train.config.settings import Settings
from train.config.trl_arguments import with_defaults
from train.models.distributed import autocast_deepspeed
from train.models.model import trains_in_bf16
from train.rl.shared_arguments import derive_shared_arguments

# Any other value would make the gradient depend on how rows are cut, or need what we do not feed.
REQUIRED_ARGS: dict[str, Any] = {
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 1,
    "num_iterations": 1,
    "importance_sampling_level": "token",
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "off_policy_mask_threshold": None,
    "router_aux_loss_coef": 0.0,
    "use_vllm": False,
}

_FIXED_ARGS: dict[str, Any] = {
    "scale_rewards": "none",
    "shuffle_dataset": False,  # rows are the places of groups
    "lr_scheduler_type": "constant_with_warmup",
    "logging_steps": 1,
    "logging_nan_inf_filter": False,  # a NaN loss must show
}


def derive_grpo_config(settings: Settings, folder: Path) -> GRPOConfig:
    """Derive TRL's arguments; those of `grpo.trl` win (see `train/config/trl_arguments.py`).

    Args:
        settings: The experiment.
        folder: Where checkpoints go.

    Raises:
        UserError: TRL refuses a value of `grpo.trl`.
    """
    grpo = settings.grpo
    derived = {
        **derive_shared_arguments(settings, folder),
        **_FIXED_ARGS,
        **REQUIRED_ARGS,
        "run_name": settings.run.name,
        "per_device_train_batch_size": (
            grpo.groups_per_step // PartialState().num_processes * grpo.group_size
        ),
        "num_generations": grpo.group_size,
        "beta": grpo.kl_weight,
        "max_steps": grpo.max_steps,
        "learning_rate": grpo.learning_rate,
        "save_steps": settings.checkpoints.every,
    }
    try:
        args = GRPOConfig(**derived | with_defaults(grpo.trl))
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UserError(
            "TRL refuses its arguments",
            got=" ".join(str(error).split())[:300],
            remedy=f"correct or leave out one of grpo.trl: {', '.join(grpo.trl)}",
        ) from error
    autocast_deepspeed(args, bf16=trains_in_bf16(settings))
    return args
