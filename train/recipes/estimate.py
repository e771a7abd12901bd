"""What one device will hold and how long a stage will take, before anything is trained.

Memory comes from formulas (`Memory`), time from a short measurement of the model at hand
(`measure_speed`). Both are meant to tell "fits" from "does not" and minutes from days, no more.

Not covered: buckets and buffers of the collectives, the allocator's fragments, Python and torch
themselves (about 0.7 GB), and the sandbox.

Tests: tests/train/recipes/test_estimate.py, tests/train/recipes/test_dry_run.py.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch

from envs.records import Ids
from envs.rendering import ChatFormat
from train.config.settings import Settings
from train.costs.shape import measure_shape
from train.models.model import ParameterCount, trains_in_bf16
from train.rl.dev_evaluation import DEV_SAMPLES
from train.rollouts.engine import make_engine

Stage = Literal["sft", "grpo"]

_BF16_SHARE = 0.75  # of float32 activations that are left under autocast: norms stay in float32
_FOUR_BITS = 0.52  # bytes per value: 4 bits, and its share of doubly quantised scales
_LIVE_PARAMETERS = 1e9  # DeepSpeed's default of stage3_max_live_parameters
_MEASURED_EPISODES = 8
_MEASURED_NEW_TOKENS = 16
_MEASURED_ROW_TOKENS = 512
_TILE_TOKENS, _TILE_WORDS = 4096, 32768  # of TRL's head, trl/kernels and trl/trainer/utils.py
_HEAD_ON_CPU = 32  # bytes per value: without Triton a tile has seven copies (measured)
LARGEST_ON_CPU = 1_000_000_000  # parameters; above, even a short measurement takes minutes


@dataclass(frozen=True)
class Memory:
    """Bytes on one device of N.

    With P frozen parameters of b bytes (4 in float32, 2 in bfloat16), A trainable ones, T tokens of
    a micro-batch (`grpo.tokens_per_microbatch`), L layers of width H, K features of all key-value
    heads (what other layers keep of a request: train/costs/shape.py), I features of the MLP, V
    words of the vocabulary, E episodes decoded at once on this device, W tokens of the largest
    window:

        weights      b*P                       bytes; /N under ZeRO-3; in 4 bits 0.52 for b, but for
                                               V*H of the embedding
        adapter      4*A                       float32 (the whole model in the tiny model's SFT); /N
                                               under ZeRO-3
        gradient     4*A                       /N under ZeRO-2 and 3
        optimizer    8*A                       two float32 moments of AdamW; 12*A/N under ZeRO-2 and
                                               3, which step on a float32 copy
        reference    4*A                       if grpo.kl_weight is not 0; /N under ZeRO-3
        acting copy  b*P + 4*A                 on a CPU: the adapter folded into a float32 copy, or
                                               matrices in bf16 as oneDNN wants them; under
                                               ZeRO-3: whole weights, gathered
        gathered     b*min(P, 1e9)             ZeRO-3 in training: stage3_max_live_parameters
        KV cache     2*b*L*K*W*E               of the batch, and as much kept for the next turn, but
                                               no more than `rollouts.kept_kv_gb`
        forward      b*N*(4*I + 5*H)           reading N = `rollouts.prefill_tokens` tokens
                     + 2*b*Q*W*E               (measured on a CPU), a layer's keys and values for
                                               all Q features of the queries, if Q is more than K;
                                               or at decoding 24*V*E, log-probs in float64; or
                                               2*b*K*W*E, a layer's tables when they grow
        activations  4*T*L*(7*H + 2*K + 4*I)   counted with torch's saved-tensor hooks on Qwen2 and
                                               Llama with LoRA, within 6 %; times 0.75 plus 2*P
                                               under bf16 autocast; with checkpointing
                                               4*T*(L*H + 7*H + 2*K + 4*I)
        head         c*min(T,4096)*min(V,2^15) a tile of logits, with what TRL computes from it
                                               (trl/kernels/chunked_logprob.py); no more, however
                                               many tokens: c = 2 in bf16, else 4; 32 on a CPU

    `held` stays for the whole stage; generation and training take turns, so the peak counts the
    larger of the two.
    """

    weights: int
    adapter: int
    gradient: int
    optimizer: int
    reference: int
    acting_copy: int
    gathered: int
    kv_cache: int
    forward: int
    activations: int
    head: int

    @property
    def held(self) -> int:
        """What stays: weights, adapter, gradient, optimizer, reference."""
        return self.weights + self.adapter + self.gradient + self.optimizer + self.reference

    @property
    def peak(self) -> int:
        """Most bytes at once."""
        generating = self.acting_copy + self.kv_cache + self.forward
        return max(self.held + generating, self.training)

    @property
    def training(self) -> int:
        """Most bytes at once where servers sample, so that this process only trains."""
        return self.held + self.gathered + self.activations + self.head


@dataclass(frozen=True)
class Speed:
    """Tokens per second of one device: sampled (prompts read included), and trained."""

    generated: float
    trained: float


def estimate_memory(
    settings: Settings,
    stage: Stage,
    *,
    shape: Any,
    count: ParameterCount,
    world_size: int,
    on_cpu: bool,
    zero: Literal[0, 2, 3] = 0,
) -> Memory:
    """Return the bytes on one device, by the formulas of `Memory`.

    Args:
        settings: The experiment.
        stage: Which of its stages.
        shape: The model's Transformers config.
        count: Its parameters, adapter included.
        world_size: Devices that share the episodes of a step.
        on_cpu: Whether episodes are decoded on a CPU.
        zero: Stage of DeepSpeed's ZeRO (arXiv 1910.02054); 0 for one process or DDP.
    """
    model, grpo = settings.model, settings.grpo
    trainable, frozen = count.trainable, count.total - count.trainable
    size, is_bf16 = _bytes_per_value(settings), trains_in_bf16(settings)
    _, kv_features = _count_features(shape)
    layers, width, tokens = shape.num_hidden_layers, shape.hidden_size, grpo.tokens_per_microbatch
    block = 7 * width + 2 * kv_features + 4 * shape.intermediate_size
    kept = layers * width + block if model.gradient_checkpointing else layers * block
    activations = 4 * tokens * kept
    if is_bf16:
        activations = int(_BF16_SHARE * activations) + (2 * frozen if size == 4 else 0)
    episodes = min(grpo.generation_batch, -(-episodes_per_step(settings) // world_size))
    weights = weight_bytes(settings, shape=shape, count=count)
    copies = zero == 3 or (on_cpu and frozen > 0 and not model.load_in_4bit)
    running = int(episodes * count_kv_bytes(settings, shape=shape, tokens=settings.largest_window))
    tile = min(tokens, _TILE_TOKENS) * min(shape.vocab_size, _TILE_WORDS)
    held_by = world_size if zero == 3 else 1  # devices that share weights and adapter
    stepped_by = world_size if zero else 1  # and gradient and optimizer
    return Memory(
        weights=weights // held_by,
        adapter=4 * trainable // held_by,
        gradient=4 * trainable // stepped_by,
        optimizer=(12 if zero else 8) * trainable // stepped_by,
        reference=4 * trainable // held_by if stage == "grpo" and grpo.kl_weight else 0,
        acting_copy=weights + 4 * trainable if copies else 0,
        gathered=int(weights * min(1, _LIVE_PARAMETERS / max(1, frozen))) if zero == 3 else 0,
        kv_cache=running + min(running, int(settings.rollouts.kept_kv_gb * 1e9)),
        forward=_forward_bytes(settings, shape=shape, episodes=episodes),
        activations=activations,
        head=(_HEAD_ON_CPU if on_cpu else 2 if is_bf16 else 4) * tile,
    )


def weight_bytes(settings: Settings, *, shape: Any, count: ParameterCount) -> int:
    """Return the bytes of the base's weights."""
    size, frozen = _bytes_per_value(settings), count.total - count.trainable
    if not settings.model.load_in_4bit:
        return size * frozen
    embedding = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return int(_FOUR_BITS * (frozen - embedding)) + size * embedding


def count_kv_bytes(settings: Settings, *, shape: Any, tokens: float = 1) -> float:
    """Return the bytes that the engine keeps of a request: its tables have no sliding windows."""
    bits = 8 * _bytes_per_value(settings)
    return measure_shape(shape, bits=bits).kv_bytes(tokens, keeps_all=True)


def _bytes_per_value(settings: Settings) -> int:
    return 2 if settings.model.dtype == "bfloat16" else 4


def _count_features(shape: Any) -> tuple[int, int]:
    """Return the features of all queries, and of all keys, of a layer."""
    heads: int = shape.num_attention_heads
    head_dim: int = getattr(shape, "head_dim", None) or shape.hidden_size // heads
    kv_heads: int = getattr(shape, "num_key_value_heads", None) or heads
    return heads * head_dim, kv_heads * head_dim


def _forward_bytes(settings: Settings, *, shape: Any, episodes: int) -> int:
    """Return what a forward pass of generation takes besides weights and cache."""
    size, window = _bytes_per_value(settings), settings.largest_window
    queries, keys = _count_features(shape)
    block = 4 * shape.intermediate_size + 5 * shape.hidden_size
    repeated = 2 * size * queries * window * episodes if queries > keys else 0
    reading = size * settings.rollouts.prefill_tokens * block + repeated
    decoding = 24 * shape.vocab_size * episodes
    return max(reading, decoding, 2 * size * keys * window * episodes)


def episodes_per_step(settings: Settings) -> int:
    """Return the episodes of one GRPO step, over all devices."""
    return settings.grpo.groups_per_step * settings.grpo.group_size


def measure_speed(model: Any, *, chat: ChatFormat, settings: Settings, row: Ids) -> Speed:
    """Generate a few tokens for a few episodes, and train one row without a step.

    Args:
        model: The policy with its trainable parameters, on its device; gradients are dropped.
        chat: The run's encoder.
        settings: The experiment.
        row: Ids of a real episode; its first half is the prompt.
    """
    ids = row[:_MEASURED_ROW_TOKENS]
    engine = make_engine(model, chat, settings)
    engine.max_new_tokens = _MEASURED_NEW_TOKENS
    prompts = [ids[: max(1, len(ids) // 2)]] * min(
        settings.grpo.generation_batch, _MEASURED_EPISODES, episodes_per_step(settings)
    )

    async def play() -> None:
        engine.join(len(prompts))
        seeds = [torch.Generator().manual_seed(index) for index in range(len(prompts))]
        await asyncio.gather(*map(engine.sample, prompts, seeds))

    began = time.monotonic()
    asyncio.run(play())
    generated = engine.tokens_generated / (time.monotonic() - began)
    model.train()
    ids_BT = torch.tensor([ids], device=model.device)
    began = time.monotonic()
    bf16 = trains_in_bf16(settings)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        model(input_ids=ids_BT, labels=ids_BT).loss.backward()
    trained = len(ids) / (time.monotonic() - began)
    model.zero_grad(set_to_none=True)
    return Speed(generated, trained)


def estimate_seconds(
    settings: Settings,
    stage: Stage,
    *,
    speed: Speed,
    sampled_tokens: int,
    row_tokens: int,
    world_size: int,
    num_further: int = 0,
) -> float:
    """Return the seconds of the whole stage if all episodes sample and train on so many tokens.

    SFT: rows of all demonstrations and epochs through training. GRPO, each step: sampled tokens
    through generation, rows through training, and through forward passes, a third of that each: of
    the reference if `grpo.kl_weight` is not 0, and before the first of several updates of what the
    later ones train on; then the dev tasks, generation only. `num_further` groups of each step are
    played in the place of others (`grpo.resample` at most).
    """
    sft, grpo = settings.sft, settings.grpo
    if stage == "sft":
        tokens = sft.num_demonstrations * sft.epochs * row_tokens
        return tokens / speed.trained / world_size
    scored = (1.0 if grpo.kl_weight else 0.0) + 1 - 1 / grpo.updates_per_rollout
    passes = 1 + scored / 3
    played = sampled_tokens / speed.generated
    learned = passes * row_tokens / speed.trained
    num_episodes = grpo.max_steps * episodes_per_step(settings)
    num_dev = (1 + -(-grpo.max_steps // grpo.evaluate_every)) if grpo.evaluate_every else 0
    num_dev *= DEV_SAMPLES * settings.tasks.dev
    num_dropped = grpo.max_steps * num_further * grpo.group_size
    num_played = num_episodes + num_dropped + num_dev
    return (num_episodes * learned + num_played * played) / world_size
