"""What warm start and GRPO tell Transformers' trainers alike: optimizer, device, checkpoints.

Tests: tests/train/config/test_every_setting.py.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from train.config.settings import Settings
from train.models.distributed import uses_deepspeed
from train.models.model import trains_in_bf16


def derive_shared_arguments(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return the arguments of both trainers; checkpoints go to `folder`."""
    on_cpu = not torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "seed": settings.run.seed,
        "adam_beta2": 0.95,  # 0.999 starves the later, smaller cost signal
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "activation_checkpointing": settings.model.gradient_checkpointing,
        "save_strategy": "steps",
        "save_total_limit": settings.checkpoints.keep,
        "dataloader_pin_memory": False,
        "report_to": "none",  # train/rl/trackers.py reports
        "disable_tqdm": True,
        "use_cpu": on_cpu and not uses_deepspeed(),
        "ddp_backend": "gloo" if on_cpu and PartialState().num_processes > 1 else None,
        "ddp_find_unused_parameters": False,
        "bf16": trains_in_bf16(settings) and not uses_deepspeed(),
    }
