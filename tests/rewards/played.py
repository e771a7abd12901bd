"""Episodes that were really played, turn by turn, on the two-bug task of tests/envs/world.py."""

from collections.abc import Sequence

from envs.environment import EpisodeMetadata, Limits
from envs.policies import call
from envs.records import Episode, Outcome, Span, StopReason, ToolCall
from tests.envs.world import FILES, SOLVED, new_environment, sample_of

LIMITS = Limits(window_tokens=700, max_turns=20, max_new_tokens=200, observation_tokens=300)
GOLD = (Span(path="m0.py", start=1, end=3), Span(path="m1.py", start=1, end=3))
LONG = {**FILES, "far.py": "".join(f"X{n} = {n}\n" for n in range(40))}


def read(path: str, start: int, end: int) -> ToolCall:
    return call("read_lines", path=path, start=start, end=end)


def edit(path: str, start: int, end: int, text: str) -> ToolCall:
    return call("edit_lines", path=path, start=start, end=end, text=text)


def act(
    *turns: Sequence[ToolCall],
    gold: Sequence[Span] = GOLD,
    needs_rewrite: bool = False,
    solves: bool = True,
) -> Episode:
    """Play these calls, a sequence per turn; the outcome is as `solves` says if they submit."""
    environment = new_environment(limits=LIMITS, files=LONG)
    for calls in turns:
        environment.step(sample_of(calls))
    outcome: Outcome | None = None
    if environment.stop_reason is StopReason.SUBMITTED:
        outcome = SOLVED.model_copy(update={"fail_to_pass_rate": float(solves)})
    environment.stop_reason = environment.stop_reason or StopReason.TURN_LIMIT
    metadata = EpisodeMetadata("g", 0, 0, "test", 0, 1.0, needs_rewrite, tuple(gold))
    return environment.record(metadata, outcome=outcome)
