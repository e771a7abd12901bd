"""How the processes of a run join, and whole weights where ZeRO-3 has cut them into shards.

The launcher decides: nothing (one process), `torchrun` or `accelerate launch` with DDP, ZeRO-2 or
ZeRO-3 (`configs/accelerate/`). Each process loads the whole base before DeepSpeed shards it, so
host memory must hold one base per process. Not covered: FSDP, tensor and sequence parallelism.

Tests: tests/train/recipes/test_processes.py.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from envs.errors import UserError

# A rank that finished its episodes waits for the slowest; NCCL's own limit is 10 minutes.
_TIMEOUT = timedelta(hours=2)


def uses_deepspeed() -> bool:
    """Return whether `accelerate launch` starts this with DeepSpeed."""
    return bool(parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"))


def join(*, world_size: int) -> PartialState:
    """Join the other processes and return this one's place among them.

    Raises:
        UserError: Fewer joined than the launcher started; each would train alone.
    """
    on_cpu = not torch.cuda.is_available()
    options: dict[str, Any] = {"timeout": _TIMEOUT}
    if uses_deepspeed():
        import deepspeed

        # Its CPU all-reduce would be compiled at the first start; killed meanwhile, it leaves a
        # lock that every later start waits for without end. gloo needs no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # It calls collectives by names that torch has deprecated: a line for each, in each step.
        warnings.filterwarnings("ignore", r"`torch\.distributed\.", FutureWarning)
        if on_cpu:  # accelerate has no DeepSpeed on a CPU: without a backend nobody joins
            options["backend"] = "gloo"
    state = PartialState(cpu=on_cpu and not uses_deepspeed(), **options)
    if state.num_processes != world_size:
        raise UserError(
            "not all processes joined",
            got=f"{state.num_processes} of {world_size}",
            remedy="start them with `accelerate launch` or `torchrun` and a file of "
            "configs/accelerate; on a CPU with DS_ACCELERATOR=cpu",
        )
    return state


@contextmanager
def joined(*, world_size: int) -> Iterator[PartialState]:
    """Join the other processes, and part from them at the end.

    A process that ended with gloo's group in place aborted in 3 of 25 jobs (torch 2.13), after all
    was done. After an error only gloo's is taken down: NCCL's might wait for what nobody answers.

    Raises:
        UserError: As `join` does.
    """
    state = join(world_size=world_size)
    is_fine = False
    try:
        yield state
        is_fine = True
    finally:
        if is_fine or state.backend == "gloo":
            state.destroy_process_group()


def autocast_deepspeed(args: Any, *, bf16: bool) -> None:
    """Let DeepSpeed autocast as DDP does: its own bf16 mode would round the adapter to bf16."""
    if bf16 and args.deepspeed_plugin is not None:
        args.deepspeed_plugin.deepspeed_config["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # gradients are summed in float32
        }


@contextmanager
def whole_weights(trainer: Any) -> Iterator[Any]:
    """Yield the model with all weights on every process, for acting and saving; all take part.

    Inside, forward passes communicate nothing, so processes may run different numbers of them.
    """
    plugin = trainer.accelerator.state.deepspeed_plugin
    model = trainer.accelerator.unwrap_model(trainer.model)
    if plugin is None or plugin.zero_stage != 3:
        yield model
        return
    import deepspeed

    parameters = list(trainer.model.parameters())
    offload = trainer.model_wrapped.optimizer.parameter_offload
    with deepspeed.zero.GatheredParameters(parameters):
        for parameter in parameters:
            parameter.ds_active_sub_modules.clear()
        # Each module's hooks would release its weights after its forward; the root's compares
        # notes with the other processes before one (TRL's own `remove_hooks` leaves it there).
        offload._remove_module_hooks()
        offload.forward_hooks, offload.backward_hooks = [], []
        try:
            yield model
        finally:
            offload.setup_zero_stage3_hooks()


def save_adapter(trainer: Any, folder: Path) -> None:
    """Write the adapter in training; to be called in all processes."""
    with whole_weights(trainer) as model:
        if trainer.accelerator.is_main_process:
            model.save_pretrained(str(folder), selected_adapters=["default"])
