"""Did the repair work: solved or not, and the graded outcome between 0 and 1.

A bug breaks about 1 % of a real project's tests, so a raw pass rate would pay 0.99 for doing
nothing. The graded outcome therefore multiplies the two rates: fixing nothing gives 0, breaking
everything gives 0.
"""

from typing import Literal

from envs.records import Episode, FailedPart, StopReason

OutcomeKind = Literal["binary", "graded"]

INFRASTRUCTURE_STOPS = frozenset({StopReason.TIMEOUT, StopReason.ENVIRONMENT_ERROR})
"""The stop reasons the agent did not cause: they are masked, never rewarded (invariant 7)."""


OVERLONG_STOPS = frozenset({StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT})
"""Where an episode was cut off before the agent was done."""


def is_scorable(episode: Episode) -> bool:
    """Whether the episode says something about the policy rather than about the infrastructure."""
    if episode.stop_reason in INFRASTRUCTURE_STOPS:
        return False
    return episode.outcome is None or episode.outcome.unscorable is None


def failed_part(episode: Episode) -> FailedPart | None:
    """Return what of the machine broke an episode; None if it is scorable."""
    if is_scorable(episode):
        return None
    if episode.stop_reason == StopReason.TIMEOUT:
        return "timeout"
    return (episode.outcome and episode.outcome.failed_part) or "other"


def is_solved(episode: Episode) -> bool:
    """Whether the episode was submitted untampered and every hidden test passes."""
    found = episode.outcome
    if found is None or not is_scorable(episode) or not _counts(episode):
        return False
    return found.fail_to_pass_rate == 1.0 and found.pass_to_pass_rate == 1.0


def outcome(episode: Episode, kind: OutcomeKind = "binary") -> float:
    """Return o_i in [0, 1].

    `binary` is `solved_i`; `graded` is `0.5*solved_i + 0.5*f2p_i*p2p_i`. Both are 0 for an episode
    that was not submitted, that tampered with the tests, or that cannot be scored.

    Raises:
        ValueError: A submitted episode carries no outcome, so it was never graded (a bug of the
        caller).
    """
    if episode.stop_reason == StopReason.SUBMITTED and episode.outcome is None:
        raise ValueError(f"episode {episode.group_id}/{episode.sample_index} was never graded")
    solved = float(is_solved(episode))
    found = episode.outcome
    if kind == "binary" or found is None or not is_scorable(episode) or not _counts(episode):
        return solved
    return 0.5 * solved + 0.5 * found.fail_to_pass_rate * found.pass_to_pass_rate


def _counts(episode: Episode) -> bool:
    tampered = episode.outcome is not None and episode.outcome.tampered
    return episode.stop_reason == StopReason.SUBMITTED and not tampered
