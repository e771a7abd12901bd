"""Which layers of a base get an adapter, and whether a saved adapter is the one that settings name.

PEFT is content when one of several names matches, and takes the shape of a saved adapter from its
own file. Either way a setting would say one thing and the run do another.

Tests: tests/train/rollouts/test_evaluate.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from envs.errors import UserError, suggest
from train.config.settings import Settings

_EVERYWHERE = "all-linear"


def adapted_layers(base: Any, targets: Sequence[str]) -> list[str]:
    """Return the names of the layers that `model.lora_targets` selects in a base without adapter.

    Raises:
        UserError: A name matches no linear layer, or the head alone.
    """
    output = base.get_output_embeddings()
    layers = [n for n, m in base.named_modules() if _is_linear(m) and m is not output]
    if list(targets) == [_EVERYWHERE]:
        return layers
    for target in targets:
        if not any(_matches(layer, target) for layer in layers):
            known = sorted({layer.rpartition(".")[2] for layer in layers})
            raise UserError(
                "model.lora_targets names no linear layer of the base below its head",
                got=target,
                remedy=suggest(target, [*known, _EVERYWHERE]),
            )
    return [layer for layer in layers if any(_matches(layer, target) for target in targets)]


def check_adapter(model: Any, settings: Settings, *, folder: Path, layers: Sequence[str]) -> None:
    """Refuse a loaded adapter that is not the one that the settings describe.

    Args:
        model: The base with the adapter on it.
        folder: Where the adapter was read from.
        layers: What `model.lora_targets` selects, see `adapted_layers`.

    Raises:
        UserError: Rank, scale or layers differ.
    """
    saved, wanted = model.peft_config["default"], settings.model
    own = sorted({name.rpartition(".")[2] for name in model.base_model.targeted_module_names})
    facts: dict[str, tuple[Any, Any]] = {
        "lora_rank": (saved.r, wanted.lora_rank),
        "lora_alpha": (f"{saved.lora_alpha:g}", f"{wanted.lora_alpha:g}"),
    }
    if set(model.base_model.targeted_module_names) != set(layers):
        facts["lora_targets"] = (f"[{', '.join(own)}]", f"[{', '.join(wanted.lora_targets)}]")
    wrong = {name: pair for name, pair in facts.items() if pair[0] != pair[1]}
    if wrong:
        differences = ", ".join(f"{name} {has}, not {want}" for name, (has, want) in wrong.items())
        flags = " ".join(f"--model.{name}='{has}'" for name, (has, _) in wrong.items())
        raise UserError(
            "the adapter is another than the settings say",
            got=f"{differences} in {folder}",
            remedy=f"describe it as it is: {flags}",
        )


def _matches(layer: str, target: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear | Conv1D)
