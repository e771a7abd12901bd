"""The memory of a training config as a table: a row for each part, a column for each layout.

`--dry-run` and `tightrope cost training` show it. Formulas: `Memory` in train/recipes/estimate.py.

Tests: tests/train/recipes/test_dry_run.py, tests/scripts/costs/test_costs.py.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from train.config.settings import Settings
from train.models.model import add_adapter, count_parameters, meta_base
from train.models.vocabulary import new_tokenizer, saved_tokenizer
from train.recipes.estimate import Memory, Stage, estimate_memory
from train.stages.progress import size

_ROWS = {
    "base weights": "weights",
    "adapter or trained weights": "adapter",
    "gradient": "gradient",
    "optimizer": "optimizer",
    "KL reference": "reference",
    "generation: whole or merged copy": "acting_copy",
    "generation: KV cache": "kv_cache",
    "generation: one forward pass": "forward",
    "training: gathered weights": "gathered",
    "training: activations": "activations",
    "training: a tile of logits": "head",
    "peak (held + the larger phase)": "peak",
    "peak where vLLM samples": "training",
}


@dataclass(frozen=True)
class Layout:
    """Devices that train together; `zero` is the stage of DeepSpeed's ZeRO."""

    world_size: int
    on_cpu: bool = False
    zero: Literal[0, 2, 3] = 0


GPU_LAYOUTS = {
    "1 GPU": Layout(1),
    "8 GPUs, ZeRO-2": Layout(8, zero=2),
    "8 GPUs, ZeRO-3": Layout(8, zero=3),
}


def make_trainable(settings: Settings, base: Any, stage: Stage) -> Any:
    """Return what the stage trains: the from-scratch model whole in SFT, else an adapter."""
    if stage == "sft" and settings.model.kind == "tiny":
        return base
    return add_adapter(base, settings)


def plan_model(settings: Settings, stage: Stage, *, now: datetime) -> Any:
    """Return what the stage trains, without weights; the tiny model's size follows its tasks.

    Raises:
        UserError: The base's config is not there, or the tiny model's tasks are not.
    """
    tokenizer = None
    if settings.model.kind == "tiny":
        tokenizer = saved_tokenizer(settings) or new_tokenizer(settings, now=now)
    return make_trainable(settings, meta_base(settings, tokenizer), stage)


def estimate_layouts(
    settings: Settings, stage: Stage, model: Any, layouts: Mapping[str, Layout]
) -> dict[str, Memory]:
    """Return the bytes on one device of each layout."""
    count = count_parameters(model)
    return {
        title: estimate_memory(settings, stage, shape=model.config, count=count, **asdict(layout))
        for title, layout in layouts.items()
    }


def format_memory(columns: Mapping[str, Memory], model: Any) -> str:
    """Return the table, and the numbers that its formulas take."""
    lines = [" " * 34 + "".join(f"{title:>17}" for title in columns)]
    for name, field in _ROWS.items():
        sizes = [size(getattr(memory, field)) for memory in columns.values()]
        lines.append(f"{name:<34}" + "".join(f"{each:>17}" for each in sizes))
    shape, count = model.config, count_parameters(model)
    lines.append(
        f"by the formulas of train/recipes/estimate.py, with P {count.total - count.trainable:,}, "
        f"A {count.trainable:,}, L {shape.num_hidden_layers}, H {shape.hidden_size:,}, "
        f"I {shape.intermediate_size:,}, V {shape.vocab_size:,}"
    )
    return "\n".join(lines)
