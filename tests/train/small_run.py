"""A run of the smallest tiny model as its stages leave it, for tests of what comes after them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from envs.records import Split
from envs.sources.build import build
from tests.envs.context.test_event_log import WIDE
from tests.envs.world import TOKENIZER, play
from train.config.load import load_settings
from train.config.settings import Settings
from train.models.model import add_adapter, load_tokenizer, random_tiny, run_tokenizer
from train.models.tiny_tokenizer import save_tiny_tokenizer
from train.stages.open_stage import open_stage
from train.stages.run_dir import stage_dir

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "smoke.yaml"


@contextmanager
def on_one_core() -> Iterator[None]:
    """Let torch have one thread: two spin at their barriers while neighbours use the cores."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


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


PASSED_GATE = {"dev_pass_rate": 0.5, "dev_needs_rewrite": 0}
PASSED_GATE |= {"compact_share": 0.0, "evict_share": 0.0}


def add_base(settings: Settings) -> Any:
    """Finish the SFT stage with random weights; returns them."""
    model = random_tiny(settings, load_tokenizer(run_tokenizer(settings)))
    model.save_pretrained(stage_dir(settings, "sft").path / "model")
    stage = open_stage(settings, "sft", resume=True)
    stage.finish(PASSED_GATE, output=stage.config)
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


def add_warm_start(folder: Path, *, num_train: int) -> tuple[Settings, Any]:
    """Make a run up to its warm start: tasks, demonstrations, a base; returns settings and base."""
    counts: dict[Split, int] = {"train": num_train, "dev": 2, "test": 4}
    build("synthetic", out_dir=folder / "tasks", counts=counts, seed=4)
    settings = settings_in(folder)
    add_demonstrations(settings)
    return settings, add_base(settings)


def add_demonstrations(settings: Settings) -> None:
    """Finish the demos stage, with a tokenizer and a few real demonstrations in it."""
    episodes = [play(name, limits=WIDE) for name in ("gold", "careful") for _ in range(2)]
    add_tokenizer(settings)
    stage_dir(settings, "demos").write_episodes("demonstrations", episodes)
