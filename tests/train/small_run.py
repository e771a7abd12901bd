"""A run of the smallest tiny model as its stages leave it, for tests of what comes after them."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from tests.envs.world import TOKENIZER
from train.load import load_settings
from train.model import add_adapter, load_tokenizer, random_tiny, run_tokenizer
from train.run_dir import open_stage, stage_dir
from train.settings import Settings
from train.tiny import save_tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "smoke.yaml"


def arguments(folder: Path) -> list[str]:
    """Return the overrides that keep a run inside `folder`."""
    return [
        f"--run.dir={folder / 'runs'}",
        f"--run.cache={folder / 'cache'}",
        f"--tasks.dir={folder / 'tasks'}",
    ]


def settings_in(folder: Path, *overrides: str) -> Settings:
    return load_settings(CONFIG, [*arguments(folder), *overrides])


def add_tokenizer(settings: Settings) -> None:
    """Finish the demos stage, with a tokenizer in it and no demonstrations."""
    save_tiny_tokenizer(TOKENIZER, run_tokenizer(settings))
    stage = open_stage(settings, "demos", resume=True)
    stage.finish({}, output=stage.config)


def add_base(settings: Settings) -> Any:
    """Finish the SFT stage with random weights; returns them."""
    model = random_tiny(settings, load_tokenizer(run_tokenizer(settings)))
    model.save_pretrained(stage_dir(settings, "sft").path / "model")
    stage = open_stage(settings, "sft", resume=True)
    stage.finish({}, output=stage.config)
    return model


def add_policy(settings: Settings, *, scale: float = 0.1) -> PeftModel:
    """Finish the GRPO stage with an adapter whose B factors are random, times `scale`."""
    policy = add_adapter(add_base(settings), settings)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=scale) if scale else parameter.zero_()
    policy.save_pretrained(stage_dir(settings, "grpo").path / "adapter")
    stage = open_stage(settings, "grpo", resume=True)
    stage.finish({}, output=stage.config)
    return policy
