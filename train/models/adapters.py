"""Which layers of a base get an adapter, and whether a saved adapter is the one that settings name.

PEFT is content when one of several names matches, and takes the shape of a saved adapter from its
own file. Either way a setting would say one thing and the run do another. That file may also name
modules to import, files to read and patterns to match: of a stranger's, only what makes a LoRA
adapter is taken, and anything else that it switches on is refused.

Tests: tests/train/rollouts/test_evaluate.py.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers.pytorch_utils import Conv1D

from envs.errors import UserError, suggest
from train.config.settings import Settings
from train.models.model_folder import ADAPTER_CONFIG, check_adapter_files
from train.models.weight_files import read_object, read_shapes, refuse_file

WEIGHTS = "adapter_model.safetensors"
_EVERYWHERE = "all-linear"
_SWITCHES = ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias")
_SAID_ALREADY = {  # by the folder, or by what is done with it
    *("peft_type", "task_type", "peft_version", "revision", "auto_mapping", "inference_mode"),
    *("base_model_name_or_path", "init_lora_weights", "lora_dropout", "megatron_core"),
    *("r", "lora_alpha", "target_modules", *_SWITCHES),
}
_LAYER = re.compile(r"[\w.]{1,200}")
_MAX_ALPHA = 2**20
_OFF = (None, False, "none", "", 0)


def read_adapter_config(folder: Path) -> LoraConfig:
    """Return what an adapter is, of its adapter_config.json, after looking at all its files.

    Raises:
        UserError: It is none that can be read, or asks for more than LoRA layers.
    """
    check_adapter_files(folder)
    path = folder / ADAPTER_CONFIG
    said = read_object(path)
    defaults = LoraConfig().to_dict()
    for name in sorted(said.keys() - _SAID_ALREADY):
        if said[name] not in (*_OFF, [], {}, defaults.get(name)):
            refuse_file(path, f"it sets {name}, and only LoRA layers are read")
    if said.get("peft_type") != "LORA" or said.get("task_type") not in ("CAUSAL_LM", None):
        refuse_file(path, "it is no LoRA adapter of a causal language model")
    rank, alpha, targets = said.get("r"), said.get("lora_alpha"), said.get("target_modules")
    sides = {side for shape in read_shapes(folder / WEIGHTS).values() for side in shape}
    if not isinstance(rank, int) or not 1 <= rank <= max(sides, default=0):
        refuse_file(path, f"r is {str(rank)[:40]}, of no tensor in {WEIGHTS}")
    if not isinstance(alpha, int | float) or not 0 <= alpha <= _MAX_ALPHA:
        refuse_file(path, f"lora_alpha is {str(alpha)[:40]}")
    listed = [targets] if targets == _EVERYWHERE else targets
    if not isinstance(listed, list) or not all(
        isinstance(each, str) and (each == _EVERYWHERE or _LAYER.fullmatch(each)) for each in listed
    ):
        refuse_file(path, "target_modules is no list of names of layers")
    base = said.get("base_model_name_or_path")
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=targets,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base if isinstance(base, str) else None,
        **{name: said.get(name) is True for name in _SWITCHES},
    )


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
