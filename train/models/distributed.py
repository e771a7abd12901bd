"""How the processes of a run join, and whole weights where ZeRO-3 has cut them into shards.

The launcher decides: nothing (one process), `torchrun` or `accelerate launch` with DDP, ZeRO-2 or
ZeRO-3 (`configs/accelerate/`). Each process loads the whole base before DeepSpeed shards it, so
host memory must hold one base per process. Not covered: FSDP, tensor and sequence parallelism.

Tests: tests/train/recipes/test_processes.py.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

from envs.errors import InfrastructureError, UserError
from train.config.stage_settings import RolloutSettings
from train.models.weight_files import make_readable

_LEAST_WAIT_S = 7200.0  # also without tools; NCCL's own limit is 10 minutes
_MODEL_S = 3600.0  # for what the model samples in an episode, and a checkpoint

Item = TypeVar("Item")
Result = TypeVar("Result")


def uses_deepspeed() -> bool:
    """Return whether `accelerate launch` starts this with DeepSpeed."""
    return bool(parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"))


def find_longest_wait(rollouts: RolloutSettings) -> timedelta:
    """Return how long a process may have to wait for another, before one counts as lost.

    Who has played its episodes waits for the slowest: one that began its last episode just then,
    whose tools take all the time there is, twice (`train/rollouts/runner.py`). All of that is
    waited for where episodes are gathered, in the group that this limit is for: DeepSpeed's own
    groups have torch's (10 minutes with NCCL), and are only used between processes in step.
    """
    twice = 2 * (rollouts.episode_limit_s + rollouts.turn_limit_s)
    return timedelta(seconds=max(_LEAST_WAIT_S, twice + _MODEL_S))


def join(*, world_size: int, longest_wait: timedelta | None = None) -> PartialState:
    """Join the other processes and return this one's place among them.

    Args:
        world_size: Processes that the launcher started.
        longest_wait: After which a process that others wait for counts as lost.

    Raises:
        UserError: Fewer joined than the launcher started; each would train alone.
    """
    on_cpu = not torch.cuda.is_available()
    wait = longest_wait or timedelta(seconds=_LEAST_WAIT_S)
    options: dict[str, Any] = {"timeout": wait}
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
def joined(*, world_size: int, longest_wait: timedelta | None = None) -> Iterator[PartialState]:
    """Join the other processes, and part from them at the end; arguments as of `join`.

    A process that ended with gloo's group in place aborted in 3 of 25 jobs (torch 2.13), after all
    was done. After an error only gloo's is taken down: NCCL's might wait for what nobody answers.

    Raises:
        UserError: As `join` does.
    """
    state = join(world_size=world_size, longest_wait=longest_wait)
    is_fine = False
    try:
        yield state
        is_fine = True
    finally:
        if is_fine or state.backend == "gloo":
            state.destroy_process_group()


def share(items: Sequence[Item], act: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
    """Let each process act on its part of the items; returns all results, in order, to all.

    Args:
        items: The same in all processes.
        act: Returns a result for each of the items that it is given, in order.
    """
    size = PartialState().num_processes
    everyone = gather_object([act(take_share(items))])
    return [everyone[place % size][place // size] for place in range(len(items))]


def gather_on_main(value: Result) -> list[Result]:
    """Return all processes' values in the main one, [] in the others; to be called in all."""
    processes = PartialState()
    if processes.num_processes == 1:
        return [value]
    found = [cast(Result, None)] * processes.num_processes if processes.is_main_process else None
    torch.distributed.gather_object(value, found)
    return found or []


def of_main(value: Result) -> Result:
    """Return the main process's value in all: what others see of shared folders may be older."""
    found: list[Result] = gather_object([value])
    return found[0]


def on_main(act: Callable[[], Result]) -> Result:
    """Let the main process do something, and return its result in all; called in all.

    Raises:
        UserError: The main process's, in all: else the others would wait for it.
        InfrastructureError: Likewise.
    """
    told: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            told[0] = act()
        except (UserError, InfrastructureError) as error:
            told[1] = error
    broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    return cast(Result, told[0])


def take_share(items: Sequence[Item]) -> Sequence[Item]:
    """Return this process's part of the items."""
    processes = PartialState()
    return items[processes.process_index :: processes.num_processes]


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
    """Write the adapter in training; to be called in all processes.

    Of weights that ZeRO-3 has cut, the adapter's alone are gathered.
    """
    plugin = trainer.accelerator.state.deepspeed_plugin
    gathered: Any = nullcontext()
    if plugin is not None and plugin.zero_stage == 3:
        import deepspeed

        adapter = [each for each in trainer.model.parameters() if each.requires_grad]
        for parameter in adapter:
            parameter.ds_active_sub_modules.clear()  # else it would not be cut up again
        gathered = deepspeed.zero.GatheredParameters(adapter)
    with gathered:
        if trainer.accelerator.is_main_process:
            model = trainer.accelerator.unwrap_model(trainer.model)
            model.save_pretrained(str(folder), selected_adapters=["default"])
            make_readable(folder)
