"""Batched generation: many episodes await `act`, one forward pass serves them all.

Episodes advance in waves: when every worker's episode waits for its turn, all pending prompts are
decoded together with a KV cache, and rows that finished leave the batch. What an episode's context
shares with its last turn's is not read again (`train/rollouts/kv_cache.py`). Every episode draws
from a generator of its own, so what it samples does not depend on who shares its batch (up to the
rounding of batched kernels); who shares it, and in which order, does not depend on time.

Shapes: B rows, T tokens, V vocabulary.
"""

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel

from envs.records import Ids, Sample, View
from envs.rendering import ChatFormat
from train.config.settings import Settings
from train.rollouts.kv_cache import EMPTY, Batch, Prefix, make_batch


@dataclass
class TurnRequest:
    """One prompt that waits for its sample."""

    prompt_ids: Ids
    seed: int
    uniforms_T: torch.Tensor  # noqa: N815 (shape suffix)
    future: "asyncio.Future[Sample]"


@dataclass
class Engine:
    """Serves the turns of all running episodes from one model.

    Attributes:
        model: A causal LM, with or without adapter, in eval mode.
        stop_ids: Sampling stops at each of them; the first fills rows on the left, too.
        max_new_tokens: Most tokens of a sample.
        temperature: 0 means greedy.
        tokens_generated: Counter over the engine's life.
    """

    model: Any
    stop_ids: Ids
    max_new_tokens: int
    temperature: float = 1.0
    tokens_generated: int = 0
    _num_workers: int = 0
    _pending: list[TurnRequest] = field(default_factory=list)
    _kept: dict[int, Prefix] = field(default_factory=dict)

    def join(self, num_workers: int) -> None:
        """Count workers that play one episode after another; each wave waits for all of them."""
        self._num_workers += num_workers

    def leave(self) -> None:
        """Count one worker less; the wave may now be complete."""
        self._num_workers -= 1
        self._flush_if_complete()

    async def sample(self, prompt_ids: Ids, generator: torch.Generator) -> Sample:
        """Return one sample under `prompt_ids`, drawn with the episode's own generator."""
        uniforms = torch.rand(self.max_new_tokens, generator=generator)
        future = asyncio.get_running_loop().create_future()
        seed = generator.initial_seed()
        self._pending.append(TurnRequest(prompt_ids, seed, uniforms, future))
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
    def _decode(self, requests: list[TurnRequest]) -> list[Sample]:
        prefixes = self._read(requests)
        most = self.max_new_tokens
        batch = self._batch(prefixes, [r.prompt_ids[-1:] for r in requests], num_generated=most)
        prefixes.clear()  # the batch holds a copy
        rows = torch.arange(len(requests), device=self.model.device)
        uniforms_BT = torch.stack([r.uniforms_T for r in requests]).to(self.model.device)
        tokens: list[list[int]] = [[] for _ in requests]
        logps: list[list[float]] = [[] for _ in requests]
        alive_B = torch.ones_like(rows, dtype=torch.bool)
        stops = torch.tensor(self.stop_ids, device=self.model.device)
        for step in range(most):
            logits_BV = self._forward(batch)
            picked_B, logps_B = draw(
                logits_BV, uniforms_BT[rows, step], temperature=self.temperature
            )
            for row, token, logp in zip(
                rows.tolist(), picked_B.tolist(), logps_B.tolist(), strict=True
            ):
                tokens[row].append(token)
                logps[row].append(logp)
            alive_B = alive_B & ~torch.isin(picked_B, stops)  # what ended draws on until it leaves
            self.tokens_generated += len(picked_B)
            ends = step == most - 1 or not alive_B.any()
            if ends or alive_B.float().mean() < 0.8:  # copying pays once a fifth of it is dead
                leaving_B = torch.ones_like(alive_B) if ends else ~alive_B
                for row in leaving_B.nonzero()[:, 0].tolist():
                    request, sampled = requests[int(rows[row])], tokens[int(rows[row])]
                    read = request.prompt_ids + tuple(sampled[:-1])
                    self._kept[request.seed] = batch.prefix(row, read)
                if ends:
                    break
                keep = alive_B.nonzero()[:, 0]
                batch.cache.batch_select_indices(keep)
                rows, picked_B, alive_B = rows[keep], picked_B[keep], alive_B[keep]
                batch.mask_BT, batch.positions_BT = batch.mask_BT[keep], batch.positions_BT[keep]
            batch.ids_BT = picked_B[:, None]
            ones_B1 = batch.mask_BT.new_ones(len(rows), 1)
            batch.mask_BT = torch.cat([batch.mask_BT, ones_B1], dim=1)
            batch.positions_BT = batch.positions_BT[:, -1:] + 1
        return [self._finish(t, p) for t, p in zip(tokens, logps, strict=True)]

    def _read(self, requests: list[TurnRequest]) -> list[Prefix]:
        """Return the prompts without their last token; what was not kept is computed.

        Rows with about as much to read go together, or one new episode would pad all others.
        """
        # a sliding window counts columns, so there no row may have pads within
        kept = {} if getattr(self.model.config, "sliding_window", None) else self._kept
        known = [kept.pop(r.seed, EMPTY).before(r.prompt_ids) for r in requests]
        self._kept.clear()  # who is not in this wave has ended
        missing = [len(r.prompt_ids) - 1 - len(p.ids) for r, p in zip(requests, known, strict=True)]
        order = sorted((row for row, n in enumerate(missing) if n), key=lambda row: -missing[row])
        while order:
            part = [row for row in order if 2 * missing[row] > missing[order[0]]]
            order = order[len(part) :]
            fresh = [requests[row].prompt_ids[len(known[row].ids) : -1] for row in part]
            batch = self._batch([known[row] for row in part], fresh, num_generated=0)
            self._forward(batch)
            for at, row in enumerate(part):
                known[row] = batch.prefix(at, requests[row].prompt_ids[:-1])
        return known

    def _batch(self, prefixes: list[Prefix], fresh: list[Ids], *, num_generated: int) -> Batch:
        return make_batch(
            prefixes,
            fresh,
            num_generated=num_generated,
            num_layers=self.model.config.num_hidden_layers,
            pad_id=self.stop_ids[0],
            device=self.model.device,
        )

    def _forward(self, batch: Batch) -> torch.Tensor:
        """Return the logits behind each row's last token, of shape (B, V)."""
        # accelerate wraps the forward of a model in training into autocast; acting goes without
        forward = getattr(self.model, "_original_forward", self.model)
        logits_BTV: torch.Tensor = forward(
            input_ids=batch.ids_BT,
            attention_mask=batch.mask_BT,
            position_ids=batch.positions_BT,
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits_BTV[:, -1]

    def _finish(self, tokens: list[int], logps: list[float]) -> Sample:
        ends = (end for end, token in enumerate(tokens, start=1) if token in self.stop_ids)
        length = next(ends, None)
        return Sample(
            token_ids=tuple(tokens[:length]),
            sampling_logps=tuple(logps[:length]),
            finish="length" if length is None else "stop",
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


def make_engine(
    model: Any, chat: ChatFormat, settings: Settings, *, greedy: bool = False
) -> Engine:
    """Return an engine over `model` in eval mode with the run's sampling.

    An adapter on float32 weights is folded into a copy for speed; the model itself is never merged.
    """
    acting = copy_for_acting(model)
    acting.eval()
    return Engine(
        model=acting,
        stop_ids=tuple(chat.stop_ids),
        max_new_tokens=settings.context.max_new_tokens,
        temperature=0.0 if greedy else 1.0,
    )


def copy_for_acting(model: Any) -> Any:
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
