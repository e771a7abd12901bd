"""Generation for many episodes at once: each joins the running batch when its turn comes.

An episode whose tools are done joins at the next token, and one that waits for tests holds nobody
up: between two tokens the event loop takes in what the workers have answered. What an episode's
context shares with its last turn's, and a first turn with those of others, is not read again
(`train/rollouts/kv_cache.py`). Every episode draws from a generator of its own, so what it samples
does not depend on who shares its batch, up to the rounding of batched kernels.

In waves, for runs that must give the same bytes, nobody is decoded before all workers' episodes
wait, and nobody joins before all have ended: who shares a batch does not depend on time either.

Not here: CUDA graphs and `torch.compile`, which want shapes that stay.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from envs.records import Ids, Sample, View
from envs.rendering import ChatFormat
from train.config.settings import Settings
from train.models.acting import copy_for_acting
from train.rollouts.kv_cache import PrefixStore
from train.rollouts.running_batch import RunningBatch, TurnRequest

_LOOPS_PER_TOKEN = 3  # rounds of the event loop until a worker's answer has become a request


@dataclass
class Engine:
    """Serves the turns of all running episodes from one model.

    Attributes:
        model: A causal LM, with or without adapter, in eval mode.
        stop_ids: Sampling stops at each of them.
        max_new_tokens: Most tokens of a sample.
        temperature: 0 means greedy.
        in_waves: Whether all wait for all.
        max_rows: Most rows of the running batch; in waves there are as many as workers.
        prefill_tokens: Most prompt tokens that are read in one forward pass, and between two tokens
            of the running batch; a single longer prompt is read in parts.
        kept: What was computed for episodes that wait for their tools.
        tokens_generated: Counter over the engine's life.
    """

    model: Any
    stop_ids: Ids
    max_new_tokens: int
    temperature: float = 1.0
    in_waves: bool = False
    max_rows: int = 64
    prefill_tokens: int = 4096
    kept: PrefixStore = field(default_factory=lambda: PrefixStore(max_bytes=4e9))
    tokens_generated: int = 0
    _num_workers: int = 0
    _pending: list[TurnRequest] = field(default_factory=list)
    _batch: RunningBatch | None = None
    _serving: "asyncio.Task[None] | None" = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def policy(self, *, seed: int, group: str) -> "ModelPolicy":
        """Return what plays one attempt at an episode, with a generator of its own."""
        del group  # what episodes share is found by their prompts
        return ModelPolicy(self, torch.Generator().manual_seed(seed))

    def join(self, num_workers: int) -> None:
        """Count workers that play one episode after another; each wave waits for all of them."""
        self._num_workers += num_workers

    def leave(self) -> None:
        """Count one worker less; the wave may now be complete."""
        self._num_workers -= 1
        self._serve_soon()

    def forget(self, seed: int) -> None:
        """Give up what is kept for an episode that has ended."""
        self.kept.discard(seed)

    async def sample(self, prompt_ids: Ids, generator: torch.Generator) -> Sample:
        """Return one sample under `prompt_ids`, drawn with the episode's own generator."""
        uniforms: list[float] = torch.rand(self.max_new_tokens, generator=generator).tolist()
        future = asyncio.get_running_loop().create_future()
        request = TurnRequest(prompt_ids, generator.initial_seed(), uniforms, future)
        self._pending.append(request)
        self._serve_soon()
        return await future

    def _serve_soon(self) -> None:
        if self._may_begin() and (self._serving is None or self._serving.done()):
            self._serving = asyncio.get_running_loop().create_task(self._serve())

    def _may_begin(self) -> bool:
        """Tell whether somebody waits, or in waves everybody."""
        self._pending = [request for request in self._pending if not request.future.done()]
        return len(self._pending) >= max(1, self._num_workers if self.in_waves else 1)

    async def _serve(self) -> None:
        """Decode token by token and let others join in between, until nobody is left."""
        joining: list[TurnRequest] = []
        try:
            batch = self._batch = self._batch or self._new_batch()
            while batch.rows or self._may_begin():
                joining = self._take_pending(batch)
                if joining:
                    batch.add(joining)
                self.tokens_generated += len(batch.rows)
                for request, sample in batch.step():
                    if not request.future.done():
                        request.future.set_result(sample)
                for _ in range(_LOOPS_PER_TOKEN):
                    await asyncio.sleep(0)
        except Exception as error:
            rows = self._batch.rows if self._batch else ()
            for request in (*rows, *joining, *self._pending):
                if not request.future.done():
                    request.future.set_exception(error)
            self._pending, self._batch = [], None

    def _take_pending(self, batch: RunningBatch) -> list[TurnRequest]:
        """Take who joins now: in waves all, else who waited longest, within the bounds."""
        joining: list[TurnRequest] = []
        if self.in_waves:
            if not batch.rows:
                joining, self._pending = sorted(self._pending, key=lambda r: r.episode), []
            return joining
        num_tokens = 0
        for request in self._pending[: self.max_rows - len(batch.rows)]:
            if all(request.prompt_ids != other.prompt_ids for other in joining):
                num_tokens += batch.count_missing(request)
            if joining and num_tokens > self.prefill_tokens:
                break
            joining.append(request)
        self._pending = self._pending[len(joining) :]
        return joining

    def _new_batch(self) -> RunningBatch:
        return RunningBatch(
            self.model,
            stop_ids=self.stop_ids,
            temperature=self.temperature,
            max_rows=max(self.max_rows, len(self._pending)),
            prefill_tokens=self.prefill_tokens,
            kept=self.kept,
        )


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

    On a CPU a copy acts for speed (`train/models/acting.py`); the model itself is never merged.
    """
    acting = copy_for_acting(model)
    acting.eval()
    return Engine(
        model=acting,
        stop_ids=tuple(chat.stop_ids),
        max_new_tokens=settings.context.max_new_tokens,
        temperature=0.0 if greedy else 1.0,
        in_waves=settings.run.deterministic,
        max_rows=settings.grpo.generation_batch,
        prefill_tokens=settings.rollouts.prefill_tokens,
        kept=PrefixStore(max_bytes=settings.rollouts.kept_kv_gb * 1e9),
    )
