"""Many episodes at a time in one event loop, each begun when another has ended.

Tests: tests/train/rollouts/test_runner.py.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, TypeVar

import torch

from envs.records import Policy
from train.config.settings import Settings

_WORKERS_BESIDE_CORES, _MOST_WORKERS = 4, 32  # some only wait; each takes memory

Item = TypeVar("Item")
Result = TypeVar("Result")


class Sampler(Protocol):
    """What the policies of many episodes share: an `Engine`, or a `VllmSampler`.

    Attributes:
        max_rows: Most episodes that are decoded at once.
        in_waves: Whether all wait for all.
    """

    max_rows: int
    in_waves: bool

    async def __aenter__(self) -> Any:
        """Begin to serve in this event loop."""

    async def __aexit__(self, *_: object) -> None:
        """End it."""

    def policy(self, *, seed: int, group: str) -> Policy:
        """Return what plays one attempt at an episode."""
        ...

    def join(self, num_workers: int) -> None:
        """Count workers that play one episode after another."""

    def leave(self) -> None:
        """Count one worker less."""

    def forget(self, seed: int) -> None:
        """Give up what is kept for an episode that has ended."""


def run_bounded(
    act: Callable[[Item], Awaitable[Result]],
    items: Sequence[Item],
    *,
    concurrency: int,
    sampler: Sampler | None = None,
) -> list[Result]:
    """Await `act` of each item, `concurrency` at a time; returns the results in order."""
    queue = iter(enumerate(items))
    results: dict[int, Result] = {}
    num_workers = min(concurrency, len(items))

    async def work() -> None:
        try:
            for index, item in queue:
                results[index] = await act(item)
        finally:
            if sampler:
                sampler.leave()

    async def run() -> None:
        async with sampler or nullcontext():
            if sampler:
                sampler.join(num_workers)
            await asyncio.gather(*(work() for _ in range(num_workers)))

    asyncio.run(run())
    return [results[index] for index in range(len(items))]


def count_tool_workers(settings: Settings) -> int:
    """Return how many workers carry out tools for this process: by its share of the cores."""
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    by_cores = len(os.sched_getaffinity(0)) // processes + _WORKERS_BESIDE_CORES
    return settings.rollouts.tool_workers or min(_MOST_WORKERS, by_cores)
