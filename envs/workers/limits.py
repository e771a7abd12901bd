"""How long the tools of one episode may take, and how often it is begun when the machine fails.

An infrastructure failure never becomes a reward: the episode is played anew in a fresh environment,
a few times. Tests: tests/envs/workers/test_limits.py, tests/train/rollouts/test_runner.py.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from envs.episode import Bench
from envs.errors import InfrastructureError
from envs.records import FailedPart, Outcome, StopReason, ToolCall
from envs.tools import TurnDone
from envs.workspace import Changes

_ATTEMPTS = 3
_ATTEMPTS_IN_TIME = 2  # of those, that may end at the deadline: the wait must have an end

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """How the machine failed each time: what it said, what of it, and how the episode ended."""

    cause: str
    part: FailedPart
    stop_reason: StopReason


@dataclass
class LimitedBench:
    """One episode's `Bench`, which ends what takes too long.

    Only the time that its calls run counts, not how long they wait for a worker: an episode has no
    part in how busy others keep them.

    Attributes:
        bench: Does the work.
        call_s: Wall seconds for a call; a turn of n calls may take n times as many.
        episode_s: Wall seconds that are left for the calls of all turns.
    """

    bench: Bench
    call_s: float
    episode_s: float

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        """Carry out the calls of one turn; see `Bench`."""
        limit_s = min(deadline_s, len(calls) * self.call_s, self.episode_s)
        try:
            done = await self.bench.use_tools(task_id, changes, calls, deadline_s=limit_s)
        except TimeoutError as error:
            raise TimeoutError(f"no end of the tools after {limit_s:g} s") from error
        self.episode_s -= done.seconds
        if self.episode_s <= 0:
            raise TimeoutError("the tools of the episode took longer than it may")
        return done

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        """Grade submitted files; see `Bench`."""
        try:
            return await self.bench.grade(task_id, files, deadline_s=deadline_s)
        except TimeoutError as error:
            raise TimeoutError(f"no end of the grading after {deadline_s:g} s") from error


async def insist(
    attempt: Callable[[Bench], Awaitable[Result]], bench: Bench, *, call_s: float, episode_s: float
) -> Result | Failure:
    """Let something be played until the machine does not fail; returns how it failed last.

    Args:
        attempt: Plays in a fresh environment, with a bench that ends what takes too long.
        bench: Does the work.
        call_s: As in `LimitedBench`.
        episode_s: As in `LimitedBench`.
    """
    num_attempts = num_late = 0
    while num_attempts < _ATTEMPTS and num_late < _ATTEMPTS_IN_TIME:
        num_attempts += 1
        try:
            return await attempt(LimitedBench(bench, call_s=call_s, episode_s=episode_s))
        except InfrastructureError as error:
            failure = Failure(str(error), error.part or "other", StopReason.ENVIRONMENT_ERROR)
        except TimeoutError as error:
            failure = Failure(str(error), "timeout", StopReason.TIMEOUT)
        num_late += failure.part == "timeout"
    return failure
