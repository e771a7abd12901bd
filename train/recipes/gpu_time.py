"""Hours of GRPO on GPUs that are not at hand, for each backend: formulas, and what they assume.

Nothing here was measured on a GPU. It tells hours from days, and which of rolling out and learning
takes longer. On the device at hand `--dry-run` measures the model.

Tests: tests/train/recipes/test_gpu_time.py.
"""

from dataclasses import dataclass
from typing import Any

from train.config.settings import Settings
from train.costs.cards import BANDWIDTH_SHARE, FLOPS_SHARE, find_card
from train.costs.serving import FILLED, MOST_ROWS
from train.models.model import ParameterCount
from train.recipes.estimate import count_kv_bytes, episodes_per_step, weight_bytes
from train.rollouts.backend import Backend

GPU = find_card("H100")
_OPERATIONS_PER_LAYER = 103  # of a decoded token: 3,700 for 36 layers with an adapter on all
_DISPATCH_S = 8e-6  # of one operation, as long as the GPU waits for Python
_ADAPTER_FACTOR = 1.35  # vLLM's time per token with LoRA: 1.33 to 1.39 (trl#7017)
_SAMPLED_SHARE = 0.5  # of `context.max_sampled_tokens` that an episode samples
ASSUMED = (
    f"assumed, not measured: {GPU.name} of {GPU.memory / 1e9:.0f} GB, episodes that sample half of "
    f"context.max_sampled_tokens and train on one mean window, {FILLED:.0%} of rows filled;\n"
    f"transformers: {_OPERATIONS_PER_LAYER} operations a layer and token, {_DISPATCH_S * 1e6:.0f} "
    f"us each; vllm: CUDA graphs, {BANDWIDTH_SHARE:.0%} of the memory's speed, up to "
    f"{MOST_ROWS} rows, x {_ADAPTER_FACTOR} for LoRA;\n"
    f"training at {FLOPS_SHARE:.0%} of bf16's peak; tools overlap with decoding, dev tasks and "
    "starting up are left out"
)


@dataclass(frozen=True)
class StepTime:
    """Seconds of a GRPO step in which all devices play, then all train."""

    rollout_s: float
    learn_s: float

    @property
    def total_s(self) -> float:
        """Both, one after the other."""
        return self.rollout_s + self.learn_s


def estimate_step(
    settings: Settings, *, shape: Any, count: ParameterCount, backend: Backend, num_gpus: int
) -> StepTime:
    """Return the seconds of a step on so many GPUs.

    A decoded token of the whole batch takes the longer of two times: to issue its operations
    (nothing under vLLM, whose CUDA graphs do that), and to read the weights and the keys and values
    of its rows. A trained token takes 2 operations per parameter in each pass: forward, the
    backward to the inputs, the forward again with checkpointing, that of the KL reference, and that
    before the first of several updates. All further groups of `grpo.resample` are played.
    """
    grpo, context = settings.grpo, settings.context
    asked = context.window_tokens
    window = sum(asked) / 2 if isinstance(asked, tuple) else settings.largest_window / 2
    num_episodes = -(-episodes_per_step(settings) // num_gpus)
    most = grpo.generation_batch if backend == "transformers" else MOST_ROWS
    num_rows = FILLED * min(most, num_episodes)
    num_played = num_episodes * (1 + grpo.resample / grpo.groups_per_step)
    num_tokens = num_played * _SAMPLED_SHARE * context.max_sampled_tokens
    held = weight_bytes(settings, shape=shape, count=count)
    # a view grows from its prompt up to the window: half of it on average
    token_s = GPU.read_s(held + num_rows * count_kv_bytes(settings, shape=shape, tokens=window / 2))
    if backend == "transformers":
        token_s = max(token_s, _OPERATIONS_PER_LAYER * shape.num_hidden_layers * _DISPATCH_S)
    else:
        token_s *= _ADAPTER_FACTOR
    passes = 2.0 + settings.model.gradient_checkpointing + (1.0 if grpo.kl_weight else 0.0)
    passes += 1 - 1 / grpo.updates_per_rollout
    operations = passes * 2 * count.total * num_episodes * window
    return StepTime(num_tokens / num_rows * token_s, GPU.compute_s(operations))


def describe_gpu_time(settings: Settings, *, shape: Any, count: ParameterCount) -> str:
    """Return a table of backends and numbers of GPUs, and what it assumes."""
    head = f"{'':<24}{'rollout':>12}{'learn':>12}{'a step':>12}{'all steps':>14}{'GPU-hours':>12}"
    lines = [head]
    for num_gpus in (1, 8):
        for backend in ("transformers", "vllm"):
            step = estimate_step(
                settings,
                shape=shape,
                count=count,
                backend="vllm" if backend == "vllm" else "transformers",
                num_gpus=num_gpus,
            )
            hours = step.total_s * settings.grpo.max_steps / 3600
            what = f"{backend}, {num_gpus} GPU{'s' if num_gpus > 1 else ''}"
            lines.append(
                f"{what:<24}{step.rollout_s:>10,.0f} s{step.learn_s:>10,.0f} s"
                f"{step.total_s:>10,.0f} s{hours:>12,.1f} h{num_gpus * hours:>10,.1f} h"
            )
    if further := settings.grpo.resample:
        lines.append(f"with all {further} further groups that grpo.resample allows a step")
    return "\n".join([*lines, ASSUMED])
