"""The episode loop, on one screen: view, sample, tools, and the grading at its end."""

from collections.abc import Sequence
from typing import Protocol

from envs.environment import Environment, EpisodeMetadata
from envs.records import Episode, Outcome, Policy, Sample, StopReason, ToolCall
from envs.tools import TurnDone
from envs.workspace import Changes


class Bench(Protocol):
    """Carries out turns and gradings for episodes: a `WorkerPool`, or a stand-in of tests."""

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        """Carry out the calls of one turn.

        Raises:
            InfrastructureError: The machine failed, not a call.
            TimeoutError: It took longer than `deadline_s` seconds.
        """
        ...

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        """Grade submitted files; raises as `use_tools` does."""
        ...


async def run_episode(
    environment: Environment,
    policy: Policy,
    *,
    bench: Bench,
    metadata: EpisodeMetadata,
    deadline_s: float,
) -> Episode:
    """Let a policy act until the environment stops it, then have graded what it submitted.

    The environment is fresh, or has gone through the first turns of another episode.

    Raises:
        InfrastructureError: The machine failed; the caller retries in a fresh environment.
        TimeoutError: One turn's tools, or the grading, took longer than `deadline_s`; time that
            the policy takes does not count.
    """
    while environment.stop_reason is None:
        sample = await policy.act(environment.view())
        await play_turn(environment, sample, bench=bench, deadline_s=deadline_s)
    outcome = None
    if environment.stop_reason is StopReason.SUBMITTED:
        task, found = environment.task, environment.workspace.files
        files = {path: found[path] for path in task.editable if path in found}
        outcome = await bench.grade(task.id, files, deadline_s=deadline_s)
    return environment.record(metadata, outcome=outcome)


async def play_turn(
    environment: Environment, sample: Sample, *, bench: Bench, deadline_s: float
) -> None:
    """Carry out one sample; raises as `run_episode` does."""
    workspace = environment.workspace
    if not (calls := environment.begin(sample)):
        environment.finish(())
        return
    changes, name = workspace.changes(), environment.task.id
    done = await bench.use_tools(name, changes, calls, deadline_s=deadline_s)
    workspace.take(done.changes)
    environment.finish(done.results)
