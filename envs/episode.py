"""The episode loop, on one screen: view, sample, tools, and the grading at its end."""

from envs.environment import Environment, Identity
from envs.records import Episode, Policy, StopReason
from envs.workbench import Bench


async def run_episode(
    environment: Environment,
    policy: Policy,
    *,
    bench: Bench,
    identity: Identity,
    deadline_s: float,
) -> Episode:
    """Let a policy act until the environment stops it, then have graded what it submitted.

    Raises:
        InfrastructureError: The machine failed; the caller retries in a fresh environment.
        TimeoutError: One turn's tools, or the grading, took longer than `deadline_s`; time that
            the policy takes does not count.
    """
    task, workspace = environment.task, environment.workspace
    while environment.stop_reason is None:
        sample = await policy.act(environment.view())
        calls = environment.begin(sample)
        if calls:
            changes = workspace.changes()
            done = await bench.use_tools(task.id, changes, calls, deadline_s=deadline_s)
            workspace.take(done.changes)
            environment.finish(done.results)
        else:
            environment.finish(())
    outcome = None
    if environment.stop_reason is StopReason.SUBMITTED:
        files = {path: workspace.files[path] for path in task.editable if path in workspace.files}
        outcome = await bench.grade(task.id, files, deadline_s=deadline_s)
    return environment.record(identity, outcome=outcome)
