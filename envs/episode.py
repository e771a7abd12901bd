"""The episode loop, on one screen: view, sample, tools, and the grading at its end."""

import asyncio
from collections.abc import Callable

from envs.environment import Environment, Identity
from envs.records import Episode, Outcome, Policy, StopReason


async def run_episode(
    environment: Environment,
    policy: Policy,
    *,
    grade: Callable[[dict[str, str]], Outcome],
    identity: Identity,
    deadline_s: float,
) -> Episode:
    """Let a policy act until the environment stops it, then grade what it submitted.

    Raises:
        InfrastructureError: The sandbox failed; the caller retries in a fresh environment.
        TimeoutError: One turn's tools, or the grading, took longer than `deadline_s`; time that
            the policy takes does not count.
    """
    while environment.stop_reason is None:
        sample = await policy.act(environment.view())
        await asyncio.wait_for(asyncio.to_thread(environment.step, sample), deadline_s)
    outcome = None
    if environment.stop_reason is StopReason.SUBMITTED:
        files = dict(environment.workspace.files)
        outcome = await asyncio.wait_for(asyncio.to_thread(grade, files), deadline_s)
    return environment.record(identity, outcome=outcome)
