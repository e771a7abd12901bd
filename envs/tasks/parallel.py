"""Sandboxed work side by side: results in order, a bounded number begun, failures retried.

One failure of the sandbox is the machine's bad moment: what it spoiled is tried again, then given
up. Many items in a row that it spoiled are a machine that no longer works.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from envs.errors import InfrastructureError

NUM_TRIES = 3  # of one item; a fork-server starts afresh after a failure
MAX_FAILURES = 5  # consecutive ones, of items whose tries are used up
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_in_order(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    on_failure: Callable[[_Item, InfrastructureError], _Result],
    pool: Executor,
    ahead: Callable[[], int],
) -> Generator[_Result, None, None]:
    """Yield what `work` makes of each item, in order, with at most `ahead()` begun.

    Args:
        work: Runs in the pool.
        items: Taken as there is room for them.
        on_failure: Makes the result of an item on which the sandbox failed `NUM_TRIES` times.
        pool: Others may use it too.
        ahead: Returns how many items may be begun at once, asked each time.

    Raises:
        InfrastructureError: The sandbox failed on `MAX_FAILURES` consecutive items.
    """
    waiting, begun = iter(items), deque[tuple[_Item, Future[_Result]]]()
    num_consecutive_failures = 0
    try:
        while True:
            for item in islice(waiting, max(0, ahead() - len(begun))):
                begun.append((item, pool.submit(_try, work, item)))
            if not begun:
                return
            item, future = begun.popleft()
            try:
                result = future.result()
                num_consecutive_failures = 0
            except InfrastructureError as error:
                num_consecutive_failures += 1
                if num_consecutive_failures == MAX_FAILURES:
                    raise InfrastructureError(
                        f"the sandbox failed {MAX_FAILURES} times in a row, the last time: {error}."
                        " What is known is kept: the same command goes on from here"
                    ) from error
                result = on_failure(item, error)
            yield result
    finally:
        for _, future in begun:
            future.cancel()


def _try(work: Callable[[_Item], _Result], item: _Item) -> _Result:
    for _ in range(NUM_TRIES - 1):
        with suppress(InfrastructureError):
            return work(item)
    return work(item)
