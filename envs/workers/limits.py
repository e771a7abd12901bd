"""How long the tools of one episode may take: each call, each turn, and all together."""

from collections.abc import Sequence
from dataclasses import dataclass

from envs.episode import Bench
from envs.records import Outcome, ToolCall
from envs.tools import TurnDone
from envs.workspace import Changes


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
