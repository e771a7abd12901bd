"""Tools end at the limit of their calls, their turn and their episode."""

import asyncio
from collections.abc import Sequence

import pytest

from envs.policies import call
from envs.records import Outcome, ToolCall
from envs.tools import TurnDone
from envs.workers.limits import LimitedBench
from envs.workspace import Changes, Workspace

FRESH = Workspace.of({}, ()).changes()


class Slow:
    """A bench whose calls take `seconds` each, of a clock of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        if self.seconds * len(calls) > deadline_s:
            raise TimeoutError
        return TurnDone((), changes, self.seconds * len(calls))

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        raise TimeoutError


@pytest.mark.parametrize(
    ("seconds", "num_calls", "said"),
    [(11, 1, "after 10 s"), (9, 3, "after 25 s"), (8, 3, "after 2 s")],
    ids=["call", "turn", "episode"],
)
def test_what_takes_too_long_ends(seconds: float, num_calls: int, said: str) -> None:
    async def turns() -> None:
        bench = LimitedBench(Slow(seconds), call_s=10, episode_s=50)
        for _ in range(3):
            await bench.use_tools("t", FRESH, [call("submit")] * num_calls, deadline_s=25)

    with pytest.raises(TimeoutError, match=said):
        asyncio.run(turns())


def test_a_grading_ends_at_its_deadline() -> None:
    bench = LimitedBench(Slow(1), call_s=10, episode_s=50)
    with pytest.raises(TimeoutError, match="grading after 7 s"):
        asyncio.run(bench.grade("t", {}, deadline_s=7))
