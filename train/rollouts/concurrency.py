"""Many episodes at a time in one event loop, each begun when another has ended.

Tests: tests/train/rollouts/test_runner.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from train.rollouts.engine import Engine

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_bounded(
    act: Callable[[Item], Awaitable[Result]],
    items: Sequence[Item],
    *,
    concurrency: int,
    engine: Engine | None = None,
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
            if engine:
                engine.leave()

    async def run() -> None:
        if engine:
            engine.join(num_workers)
        await asyncio.gather(*(work() for _ in range(num_workers)))

    asyncio.run(run())
    return [results[index] for index in range(len(items))]
