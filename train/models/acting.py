"""The policy as it samples on a CPU: a copy whose matrices lie as the kernels want them.

A bf16 base is not merged with its adapter, whose changes are mostly smaller than the spacing of
bf16 (drift measured in trl#6688). Its matrices are laid out once for oneDNN, which else does so
anew for every token, since it is handed plain ones; the adapter stays apart, in bf16, in two small
products. Measured on a 0.5B base with rank 32 and one thread: 218 prompt tokens a second instead of
98, and 204 ms of CPU for a token of 16 rows instead of 317. A float32 base is merged, into a copy.
What neither fits acts as it is.

The trainer weighs tokens by what the copy computes differently (`train/rl/importance.py`).

Not here: int8 or int4 weights, see benchmarks/cpu_kernels.py.

Tests: tests/train/models/test_acting.py.
"""

import copy
from itertools import chain
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear

_ROWS = 16  # for which matrices are laid out; other numbers are served too


class PackedLinear(torch.nn.Module):
    """A linear layer, with an adapter beside it or without, for inference.

    Attributes:
        weight: As it was, for what asks for its type; not used here.
        bias: As it was.

    Args:
        linear: What it does the work of.
        adapters: Pairs of matrices down and up, of shapes (rank, in) and (out, rank).
    """

    def __init__(
        self, linear: torch.nn.Linear, adapters: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        weight = linear.weight.detach()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._down = self._up = None
        if adapters:
            downs, ups = zip(*adapters, strict=True)
            self._down = torch.cat(downs).to(weight.dtype)
            self._up = torch.cat(ups, dim=1).to(weight.dtype).t().contiguous()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the layer's output of inputs of shape (..., in), without gradient."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        found = torch.ops.mkldnn._linear_pointwise(flat, self._packed, self.bias, "none", [], "")
        if self._down is not None:
            found.addmm_(torch.nn.functional.linear(flat, self._down), self._up)
        return found.view(*inputs.shape[:-1], -1)


def copy_for_acting(model: Any) -> Any:
    """Return what samples in a model's place on a CPU, which shares or copies it; else the model.

    The model itself is never merged nor changed.
    """
    if any(p.device.type != "cpu" or hasattr(p, "ds_id") for p in model.parameters()):
        return model  # weights that ZeRO-3 gathered belong to its engine
    if getattr(model, "is_loaded_in_4bit", False):
        return model  # folding the adapter into 4-bit weights would round it away
    if model.dtype == torch.bfloat16 and _has_fast_bf16():
        return _pack(model)
    if model.dtype == torch.float32 and isinstance(model, PeftModel):
        return _without_own_forward(copy.deepcopy(model).merge_and_unload())
    return model


def _has_fast_bf16() -> bool:
    """Tell whether oneDNN is there and the processor multiplies bf16."""
    is_there = torch.backends.mkldnn.is_available()
    return is_there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pack(model: Any) -> Any:
    """Return a copy with packed layers that shares all tensors with the model."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    shared = {id(each): each for each in chain(base.parameters(), base.buffers())}
    packed = _without_own_forward(copy.deepcopy(base, shared))
    _pack_layers(packed)
    return packed


def _pack_layers(module: torch.nn.Module) -> None:
    """Put packed layers in the place of those below a module."""
    for name, child in list(module.named_children()):
        if (found := _pack_layer(child)) is None:
            _pack_layers(child)
        else:
            setattr(module, name, found)


def _pack_layer(module: torch.nn.Module) -> PackedLinear | None:
    """Return what does a layer's work packed; None of what is no plain linear layer in bf16."""
    linear, adapters = module, []
    if isinstance(module, LoraLinear):
        if module.lora_variant or module.merged:
            return None
        linear = module.get_base_layer()
        active = [] if module.disable_adapters else module.active_adapters
        for name in (each for each in active if each in module.lora_A):
            up = module.lora_B[name].weight.detach() * module.scaling[name]
            adapters.append((module.lora_A[name].weight.detach(), up))
    if type(linear) is not torch.nn.Linear or linear.weight.dtype != torch.bfloat16:
        return None
    return PackedLinear(linear, adapters)


def _without_own_forward(model: Any) -> Any:
    """Return a copied model with the forward of its class.

    What trainers put in its place (TRL's fused head, accelerate's autocast) calls the original.
    """
    for name in ("forward", "_original_forward"):
        model.__dict__.pop(name, None)
    return model
