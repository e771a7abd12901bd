"""Episodes made by hand and by Hypothesis for the tests of scores, metrics and the report."""

from collections.abc import Sequence

from hypothesis import strategies as st

from envs.records import (
    Compacted,
    Episode,
    Event,
    Evicted,
    FailedPart,
    Opened,
    Outcome,
    Sampled,
    StopReason,
    ToolCall,
    Turn,
)

CALL = ToolCall(name="run_tests", arguments={"selector": ""})
BAD_CALL = ToolCall(name="", error="expected a JSON object", format="none")


def make_episode(
    *,
    turns: Sequence[tuple[int, int]] = ((100, 20),),
    solved: bool = True,
    f2p: float | None = None,
    p2p: float = 1.0,
    task_id: str = "t0",
    sample_index: int = 0,
    policy: str = "sft",
    stop_reason: StopReason = StopReason.SUBMITTED,
    unscorable: str | None = None,
    failed_part: FailedPart | None = None,
    tampered: bool = False,
    reference_cost: float = 1.0,
    cuts: frozenset[int] = frozenset(),
    num_cached: int = 0,
    calls: Sequence[ToolCall] = (CALL,),
    events: Sequence[Event] = (),
) -> Episode:
    """Make an episode with one (prompt, sampled) pair of token counts per turn.

    `cuts` are the turns before which a new segment starts.
    """
    made = [
        Turn(
            segment=sum(cut <= index for cut in cuts),
            prompt_end=prompt,
            sample_end=prompt + sampled,
            num_cached=min(num_cached, prompt),
            calls=tuple(calls),
            observation_ids=(),
        )
        for index, (prompt, sampled) in enumerate(turns)
    ]
    ends = {turn.segment: turn.sample_end for turn in made}
    outcome = Outcome(
        fail_to_pass_rate=float(solved) if f2p is None else f2p,
        pass_to_pass_rate=p2p,
        tampered=tampered,
        unscorable=unscorable,
        failed_part=failed_part,
        sandbox_level="test",
    )
    return Episode(
        task_id=task_id,
        group_id="g0",
        sample_index=sample_index,
        seed=0,
        policy=policy,
        policy_version=0,
        window_tokens=512,
        needs_rewrite=False,
        strategy="learned",
        reference_cost=reference_cost,
        events=(Opened(prefix_ids=(1,)), *events),
        segment_ids=tuple((0,) * end for end in ends.values()),
        turns=tuple(made),
        outcome=outcome,
        stop_reason=stop_reason,
    )


def rewrites(*, evictions: int = 0, compactions: int = 0) -> tuple[Event, ...]:
    """Make events that rewrite the context."""
    evicted = Evicted(stub_ids={}, prefix_ids=(1,))
    compacted = Compacted(summary="", prefix_ids=(1,))
    return (evicted,) * evictions + (compacted,) * compactions


def sampled_event(ids: Sequence[int]) -> Sampled:
    """Make the event of one model call."""
    return Sampled(token_ids=tuple(ids), sampling_logps=(0.0,) * len(ids), finish="stop")


@st.composite
def episodes(draw: st.DrawFn, *, scorable: bool = False, solved: bool | None = None) -> Episode:
    """Draw any episode, half of them solved; only scorable or only solved ones if asked."""
    turn = st.tuples(st.integers(1, 3000), st.integers(1, 400))
    base = {
        "turns": draw(st.lists(turn, min_size=1, max_size=6)),
        "reference_cost": draw(st.floats(0, 500)),
        "num_cached": draw(st.integers(0, 500)),
    }
    if draw(st.booleans()) if solved is None else solved:
        return make_episode(**base)
    stops = [StopReason.SUBMITTED] * 4 + [StopReason.TURN_LIMIT, StopReason.CONTEXT_OVERFLOW]
    stops += [] if scorable else [StopReason.ENVIRONMENT_ERROR, StopReason.TIMEOUT]
    return make_episode(
        **base,
        f2p=draw(st.sampled_from([0.0, 0.3, 0.5])),
        p2p=draw(st.sampled_from([1.0, 0.9])),
        stop_reason=draw(st.sampled_from(stops)),
        tampered=draw(st.sampled_from([False, False, False, True])),
        unscorable=None if scorable else draw(st.sampled_from([None, None, "sandbox died"])),
    )


def groups(*, scorable: bool = False) -> st.SearchStrategy[list[Episode]]:
    """Draw groups of one to eight episodes."""
    return st.lists(episodes(scorable=scorable), min_size=1, max_size=8)
