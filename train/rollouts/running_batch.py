"""The rows that are decoded together: prompts are read into it, every step adds a token to each.

Synchronous and without a clock; who joins when is the engine's to say (`train/rollouts/engine.py`).

Shapes: B rows, T tokens, V vocabulary.

Tests: tests/train/rollouts/test_running_batch.py, tests/train/rollouts/test_engine.py.
"""

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel

from envs.records import Ids, Sample
from train.models.cache_layers import has_plain_attention
from train.rollouts.kv_cache import EMPTY, Prefix, PrefixStore, count_shared
from train.rollouts.kv_table import Inputs, KVTable

_BLOCK = 128  # words of the vocabulary; divides most


@dataclass(eq=False)
class TurnRequest:
    """One prompt that waits for its sample; then a row of the batch.

    Attributes:
        episode: Whose turn it is: the seed of its generator.
        uniforms: One for each token that may be sampled; in [0, 1).
        future: Where the sample is awaited.
        tokens: The sample so far, `logps` their log-probs (nats).
    """

    prompt_ids: Ids
    episode: int
    uniforms: list[float]
    future: "asyncio.Future[Sample]"
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    known: Prefix | None = None  # what is computed of the prompt, if that was looked for just now

    @cached_property
    def read_ids(self) -> Ids:
        """The prompt but for its last token, with which the first one is sampled."""
        return self.prompt_ids[:-1]


class RunningBatch:
    """Rows, their table of keys and values, and what episodes that wait have computed before.

    Args:
        model: A causal LM in eval mode.
        stop_ids: A sample ends with the first of them.
        temperature: 0 means greedy.
        max_rows: Most rows there will be.
        prefill_tokens: Most tokens of a forward pass that reads prompts, pads included.
        kept: What was computed for others.
    """

    def __init__(
        self,
        model: Any,
        *,
        stop_ids: Ids,
        temperature: float,
        max_rows: int,
        prefill_tokens: int,
        kept: PrefixStore,
    ) -> None:
        self.rows: list[TurnRequest] = []
        self._model, self._stop_ids, self._temperature = model, stop_ids, temperature
        self._prefill_tokens, self._kept = prefill_tokens, kept
        self._table = self._new_table(max_rows)
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        names = inspect.signature(type(base).forward).parameters  # Mamba drops the usual one
        attention = str(model.config._attn_implementation)
        # what rows see is handed on as it is: without a mask, which Transformers leaves out where
        # nothing is hidden, the CPU's kernel took ten times as long with fewer heads of keys
        self._hands_masks_on = (
            model.device.type == "cpu"
            and attention.startswith("sdpa")
            and has_plain_attention(model.config)
        )
        self._cache_name = "cache_params" if "cache_params" in names else "past_key_values"

    @torch.inference_mode()
    def count_missing(self, request: TurnRequest) -> int:
        """Return how many tokens of a prompt have to be read.

        What is known of it is remembered for `add`, before the next token.
        """
        request.known = self._find_known(request)
        return len(request.read_ids) - len(request.known.ids)

    @torch.inference_mode()
    def add(self, requests: Sequence[TurnRequest]) -> None:
        """Read prompts, equal ones once, and put their rows behind the others."""
        alike: dict[Ids, list[TurnRequest]] = {}
        for request in requests:
            alike.setdefault(request.prompt_ids, []).append(request)
        most = max(len(request.read_ids) for request in requests)
        self._table.make_room(len(requests), num_tokens=most)
        if self._table.reads_alone:
            self._read_alone(alike)
            return
        known = {ids: same[0].known or self._find_known(same[0]) for ids, same in alike.items()}
        order = sorted(alike, key=lambda ids: len(known[ids].ids) - len(ids))  # most to read first
        begin = len(self.rows)
        for ids in order:
            self._table.join(known[ids], num_tokens=len(ids) - 1)
            self.rows.append(alike[ids][0])
        for request in requests:
            request.known = None  # now it is in the table
            self._kept.discard(request.episode)
        self._read([len(ids) - 1 - len(known[ids].ids) for ids in order], begin=begin)
        for row, ids in enumerate(order, start=begin):
            for request in alike[ids][1:]:
                self._table.join(self._table.view(row, ids[:-1]), num_tokens=len(ids) - 1)
                self.rows.append(request)

    @torch.inference_mode()
    def step(self) -> list[tuple[TurnRequest, Sample]]:
        """Add a token to each row; returns those that ended, which are rows no more."""
        ids_B1 = torch.tensor([[(row.tokens or row.prompt_ids)[-1]] for row in self.rows])
        logits_BV = self._forward(self._table, ids_B1, self._table.before_token())
        uniforms = [row.uniforms[len(row.tokens)] for row in self.rows]
        uniforms_B = torch.tensor(uniforms, device=logits_BV.device)
        picked_B, logps_B = draw(logits_BV, uniforms_B, temperature=self._temperature)
        for row, token, logp in zip(self.rows, picked_B.tolist(), logps_B.tolist(), strict=True):
            row.tokens.append(token)
            row.logps.append(logp)
        ended = []
        for place in reversed(range(len(self.rows))):  # the last row takes the place of one gone
            row = self.rows[place]
            is_stopped = row.tokens[-1] in self._stop_ids
            if is_stopped or len(row.tokens) == len(row.uniforms) or row.future.done():
                ended.append((row, _make_sample(row, is_stopped=is_stopped)))
                self._remove(place)
        return ended[::-1]

    def _remove(self, place: int) -> None:
        row = self.rows[place]
        if not self._table.reads_alone:
            read = row.prompt_ids + tuple(row.tokens[:-1])
            self._kept.keep(row.episode, self._table.view(place, read).copy())
        self._table.leave(place)
        self.rows[place] = self.rows[-1]
        self.rows.pop()

    def _find_known(self, request: TurnRequest) -> Prefix:
        """Return the longest beginning of a prompt that is computed, its own episode's if any."""
        ids = request.read_ids
        if self._table.reads_alone:
            return EMPTY
        if own := self._kept.find(request.episode):
            return own.first(count_shared(own.ids, ids))
        best = EMPTY
        for prefix in self._kept:
            shared = count_shared(prefix.ids, ids)
            if shared > len(best.ids):
                best = prefix.first(shared)
        num_shared, like = len(best.ids), -1
        for place, row in enumerate(self.rows):
            shared = count_shared(row.read_ids, ids)
            if shared > num_shared:
                num_shared, like = shared, place
        # a copy: the table moves what it holds when it makes room
        return best if like < 0 else self._table.view(like, ids[:num_shared]).copy()

    def _read(self, missing: Sequence[int], *, begin: int) -> None:
        """Read the last tokens of the prompts of rows from `begin` on, most first.

        Rows with about as much to read go together, or one new episode would pad all others.
        """
        at = 0
        while at < len(missing) and missing[at]:
            most, stop = missing[at], at + 1
            fitting = max(1, self._prefill_tokens // most)
            while stop < min(len(missing), at + fitting) and 2 * missing[stop] > most:
                stop += 1
            rows = slice(begin + at, begin + stop)
            for left in range(most, 0, -self._prefill_tokens):  # in parts only if it is a lone row
                fresh = min(left, self._prefill_tokens)
                inputs = self._table.before_reading(rows, left=left - fresh, num_tokens=fresh)
                ids = [row.read_ids[-left:][:fresh] for row in self.rows[rows]]
                self._forward(self._table, _pad(ids, width=fresh), inputs)
            at = stop

    def _read_alone(self, alike: dict[Ids, list[TurnRequest]]) -> None:
        """Read each prompt whole and unpadded: a state cannot leave out what it has seen."""
        for ids, requests in alike.items():
            alone = self._new_table(1)
            alone.join(EMPTY, num_tokens=len(ids) - 1)
            inputs = alone.before_reading(slice(0, 1), left=0, num_tokens=len(ids) - 1)
            self._forward(alone, _pad([ids[:-1]], width=len(ids) - 1), inputs)
            for request in requests:
                self._table.join_read(alone, ids[:-1])
                self.rows.append(request)

    def _new_table(self, max_rows: int) -> KVTable:
        return KVTable(self._model.config, device=self._model.device, max_rows=max_rows)

    def _forward(self, table: KVTable, ids_BT: torch.Tensor, inputs: Inputs) -> torch.Tensor:
        """Return the logits behind each row's last token, of shape (B, V)."""
        # accelerate wraps the forward of a model in training into autocast; acting goes without
        forward = getattr(self._model, "_original_forward", self._model)
        mask = inputs.mask_BT
        if self._hands_masks_on and ids_BT.shape[1] == 1:
            mask = mask.bool()[:, None, None]
        logits_BTV: torch.Tensor = forward(
            input_ids=ids_BT.to(self._model.device),
            attention_mask=mask,
            position_ids=inputs.positions_BT,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: table.cache},
        ).logits
        return logits_BTV[:, -1]


def _pad(prompts: Sequence[Ids], *, width: int) -> torch.Tensor:
    return torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts])


def _make_sample(row: TurnRequest, *, is_stopped: bool) -> Sample:
    return Sample(
        token_ids=tuple(row.tokens),
        sampling_logps=tuple(row.logps),
        finish="stop" if is_stopped else "length",
    )


def draw(
    logits_BV: torch.Tensor, uniforms_B: torch.Tensor, *, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token per row by inverting its cumulative distribution.

    Sums of blocks of words first, then within the block that is hit: adding up a large vocabulary
    word by word took a tenth of decoding.

    Args:
        logits_BV: Any float type; computed in float32, summed in float64.
        uniforms_B: In [0, 1), one per row.
        temperature: 0 takes the most likely token.

    Returns:
        Token ids of shape (B,) and their log-probs (nats) under the tempered distribution.
    """
    scaled_BV = logits_BV.float() if temperature in (0, 1) else logits_BV.float() / temperature
    highest_B, most_likely_B = scaled_BV.max(-1)
    weights = (scaled_BV - highest_B[:, None]).exp_()
    if missing := -weights.shape[-1] % _BLOCK:
        weights = torch.nn.functional.pad(weights, (0, missing))
    weights = weights.view(len(weights), -1, _BLOCK)
    up_to_BC = weights.sum(-1, dtype=torch.float64).cumsum(-1)  # C blocks
    picked_B = _invert(weights, up_to_BC, uniforms_B) if temperature else most_likely_B
    picked_logits_B = scaled_BV.gather(-1, picked_B[:, None])[:, 0]
    return picked_B, (picked_logits_B.double() - highest_B - up_to_BC[:, -1].log()).float()


def _invert(
    weights: torch.Tensor, up_to_BC: torch.Tensor, uniforms_B: torch.Tensor
) -> torch.Tensor:
    """Return where the cumulative weight, over blocks of words and in the one hit, passes each."""
    num_rows, num_blocks, size = weights.shape
    target_B1 = uniforms_B.double()[:, None] * up_to_BC[:, -1:]
    block_B1 = torch.searchsorted(up_to_BC, target_B1, right=True).clamp(max=num_blocks - 1)
    before_B1 = torch.nn.functional.pad(up_to_BC, (1, 0)).gather(-1, block_B1)
    rows_B = torch.arange(num_rows, device=weights.device)
    within = weights[rows_B, block_B1[:, 0]].double().cumsum(-1)
    # a sum in another order differs in its last bits: stay below the end of the block
    end_B1 = torch.nextafter(within[:, -1:], torch.zeros_like(target_B1))
    rest_B1 = torch.minimum(target_B1 - before_B1, end_B1)
    inside_B1 = torch.searchsorted(within, rest_B1, right=True).clamp(max=size - 1)
    return (block_B1 * size + inside_B1)[:, 0]
