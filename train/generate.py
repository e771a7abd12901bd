"""Batched generation: many episodes await `act`, one forward pass serves them all.

Episodes advance in waves: when every worker's episode waits for its turn, all pending prompts are
decoded together with a KV cache, and rows that finished leave the batch. Every episode draws from
a generator of its own, so what it samples does not depend on who shares its batch (up to the
rounding of batched kernels); who shares it, and in which order, does not depend on time.

Shapes: B rows, T tokens, V vocabulary.
"""

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from transformers import DynamicCache

from envs.records import Ids, Sample, View
from envs.rendering import ChatFormat
from train.settings import Settings


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; `temperature` 0 means greedy."""

    max_new_tokens: int
    temperature: float = 1.0


@dataclass
class _Request:
    prompt_ids: Ids
    seed: int
    uniforms_T: torch.Tensor  # noqa: N815 (shape suffix)
    future: "asyncio.Future[Sample]"


@dataclass
class Engine:
    """Serves the turns of all running episodes from one model.

    Attributes:
        model: A causal LM, with or without adapter, in eval mode.
        eot_id: Sampling stops here.
        pad_id: Fills rows on the left.
        sampling: Length and temperature.
        tokens_generated: Counter over the engine's life.
    """

    model: Any
    eot_id: int
    pad_id: int
    sampling: Sampling
    tokens_generated: int = 0
    _num_workers: int = 0
    _pending: list[_Request] = field(default_factory=list)

    def join(self, num_workers: int) -> None:
        """Count workers that play one episode after another; each wave waits for all of them."""
        self._num_workers += num_workers

    def leave(self) -> None:
        """Count one worker less; the wave may now be complete."""
        self._num_workers -= 1
        self._flush_if_complete()

    async def sample(self, prompt_ids: Ids, generator: torch.Generator) -> Sample:
        """Return one sample under `prompt_ids`, drawn with the episode's own generator."""
        uniforms = torch.rand(self.sampling.max_new_tokens, generator=generator)
        future = asyncio.get_running_loop().create_future()
        seed = generator.initial_seed()
        self._pending.append(_Request(prompt_ids, seed, uniforms, future))
        self._flush_if_complete()
        return await future

    def _flush_if_complete(self) -> None:
        self._pending = [request for request in self._pending if not request.future.done()]
        if not self._pending or len(self._pending) < self._num_workers:
            return
        batch, self._pending = sorted(self._pending, key=lambda r: r.seed), []
        try:
            samples = self._decode(batch)
        except Exception as error:
            for request in batch:
                request.future.set_exception(error)
            return
        for request, sample in zip(batch, samples, strict=True):
            request.future.set_result(sample)

    @torch.inference_mode()
    def _decode(self, batch: list[_Request]) -> list[Sample]:
        device = self.model.device
        longest = max(len(r.prompt_ids) for r in batch)
        pads = [longest - len(r.prompt_ids) for r in batch]
        ids_BT = torch.tensor(
            [[self.pad_id] * pad + list(r.prompt_ids) for pad, r in zip(pads, batch, strict=True)],
            device=device,
        )
        mask_BT = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads], device=device)
        uniforms_BT = torch.stack([r.uniforms_T for r in batch]).to(device)
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache()
        rows = torch.arange(len(batch), device=device)
        tokens: list[list[int]] = [[] for _ in batch]
        logps: list[list[float]] = [[] for _ in batch]
        for step in range(self.sampling.max_new_tokens):
            logits_BV = self.model(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            picked_B, logps_B = draw(
                logits_BV, uniforms_BT[rows, step], temperature=self.sampling.temperature
            )
            for row, token, logp in zip(
                rows.tolist(), picked_B.tolist(), logps_B.tolist(), strict=True
            ):
                tokens[row].append(token)
                logps[row].append(logp)
            alive_B = picked_B != self.eot_id
            self.tokens_generated += len(picked_B)
            if not alive_B.any():
                break
            if alive_B.float().mean() < 0.8:  # copying the cache pays once a fifth of it is dead
                keep = alive_B.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                rows, picked_B, mask_BT = rows[keep], picked_B[keep], mask_BT[keep]
                positions_BT = positions_BT[keep]
            ids_BT = picked_B[:, None]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)
            positions_BT = positions_BT[:, -1:] + 1
        return [self._finish(t, p) for t, p in zip(tokens, logps, strict=True)]

    def _finish(self, tokens: list[int], logps: list[float]) -> Sample:
        stopped = self.eot_id in tokens
        length = tokens.index(self.eot_id) + 1 if stopped else len(tokens)
        return Sample(
            token_ids=tuple(tokens[:length]),
            sampling_logps=tuple(logps[:length]),
            finish="stop" if stopped else "length",
        )


def draw(
    logits_BV: torch.Tensor, uniforms_B: torch.Tensor, *, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token per row by inverting its cumulative distribution.

    Args:
        logits_BV: Any float type; computed in float32.
        uniforms_B: In [0, 1), one per row.
        temperature: 0 takes the most likely token.

    Returns:
        Token ids of shape (B,) and their log-probs (nats) under the tempered distribution.
    """
    logits_BV = logits_BV.float()
    logps_BV = torch.log_softmax(logits_BV / (temperature or 1.0), dim=-1)
    if temperature == 0:
        picked_B = logits_BV.argmax(-1)
    else:
        cumulative_BV = logps_BV.double().exp().cumsum(-1)
        target_B = uniforms_B.double()[:, None] * cumulative_BV[:, -1:]
        last = logits_BV.shape[-1] - 1
        picked_B = torch.searchsorted(cumulative_BV, target_B, right=True)[:, 0].clamp(max=last)
    return picked_B, logps_BV.gather(-1, picked_B[:, None])[:, 0]


@dataclass
class ModelPolicy:
    """One episode's hold on the engine, with a generator of its own."""

    engine: Engine
    generator: torch.Generator

    async def act(self, view: View) -> Sample:
        """Sample under exactly `view.prompt_ids`."""
        return await self.engine.sample(view.prompt_ids, self.generator)


def engine_for(model: Any, chat: ChatFormat, settings: Settings, *, greedy: bool = False) -> Engine:
    """Return an engine over `model` in eval mode with the run's sampling.

    An adapter on float32 weights is folded into a copy for speed; the model itself is never merged.
    """
    acting = acting_copy(model)
    acting.eval()
    return Engine(
        model=acting,
        eot_id=chat.eot_id,
        pad_id=chat.eot_id,
        sampling=Sampling(
            max_new_tokens=settings.context.max_new_tokens,
            temperature=0.0 if greedy else 1.0,
        ),
    )


def acting_copy(model: Any) -> Any:
    """Return a merged copy of a float32 adapter model on a CPU, else the model itself.

    Merging bf16 weights would round the adapter away (drift measured in trl#6688), so those act
    unmerged.
    """
    if not isinstance(model, PeftModel) or model.dtype != torch.float32:
        return model
    if getattr(model, "is_loaded_in_4bit", False):
        return model  # folding the adapter into 4-bit weights would round it away
    if model.device.type != "cpu" or any(hasattr(p, "ds_id") for p in model.parameters()):
        return model  # weights that ZeRO-3 gathered belong to its engine
    return copy.deepcopy(model).merge_and_unload()
