"""Episode records to rows: what was sampled is what is trained, once, under its own context."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.records import (
    Compacted,
    Episode,
    Event,
    Observation,
    Observed,
    Opened,
    Outcome,
    Sampled,
    Score,
    StopReason,
    Turn,
)
from tests.train.rl.rows import check_contexts, num_sampled_tokens
from train.rl.segments import (
    LEAST_SHARED,
    MOST_SHARING,
    make_filler,
    make_minibatches,
    make_rows,
    size_microbatches,
    size_packed,
)

# one turn: ids sampled, unsampled closing ids, ids observed
TurnSizes = tuple[int, int, int]
turn_sizes = st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 4))
segment_sizes = st.lists(st.lists(turn_sizes, min_size=1, max_size=3), min_size=1, max_size=4)


def built_episode(segments: list[list[TurnSizes]]) -> Episode:
    """Return an episode with a compaction between segments; all its ids differ."""
    fresh = count(1)

    def new(size: int) -> tuple[int, ...]:
        return tuple(next(fresh) for _ in range(size))

    events: list[Event] = []
    turns, segment_ids = [], []
    for index, sizes in enumerate(segments):
        ids = new(3)
        opened = Opened(prefix_ids=ids)
        events.append(Compacted(summary="", prefix_ids=ids) if index else opened)
        for num_sampled, num_closing, num_observed in sizes:
            token_ids, closing_ids = new(num_sampled), new(num_closing)
            piece_ids = new(num_observed)
            events.append(sampled_event(token_ids, closing_ids))
            turns.append(
                Turn(
                    segment=index,
                    prompt_end=len(ids),
                    sample_end=len(ids) + num_sampled,
                    num_cached=0,
                    calls=(),
                    observation_ids=(),
                )
            )
            events.append(observed_event(piece_ids))
            ids += token_ids + closing_ids + piece_ids
        segment_ids.append(ids)
    return Episode(
        task_id="task",
        group_id="step3/group1",
        sample_index=2,
        seed=0,
        policy="test",
        policy_version=0,
        window_tokens=64,
        needs_rewrite=False,
        strategy="learned",
        reference_cost=1.0,
        events=tuple(events),
        segment_ids=tuple(segment_ids),
        turns=tuple(turns),
        outcome=None,
        stop_reason=StopReason.TURN_LIMIT,
    )


def sampled_event(token_ids: tuple[int, ...], closing_ids: tuple[int, ...]) -> Sampled:
    return Sampled(
        token_ids=token_ids,
        sampling_logps=tuple(-float(i) for i in token_ids),
        closing_ids=closing_ids,
        finish="length" if closing_ids else "stop",
    )


def observed_event(piece_ids: tuple[int, ...]) -> Observed:
    observation = Observation(id="o", text="", num_tokens=len(piece_ids), remaining_tokens=0)
    return Observed(
        observations=(observation,),
        piece_ids=(piece_ids,),
        head_ids=(),
        separator_ids=(),
        tail_ids=(),
    )


def sampled_events(episode: Episode) -> list[Sampled]:
    return [event for event in episode.events if isinstance(event, Sampled)]


@given(segment_sizes)
def test_every_sampled_token_is_trained_once_and_nothing_else(
    segments: list[list[TurnSizes]],
) -> None:
    episode = built_episode(segments)
    rows = make_rows(episode, advantage=-0.5)
    trained = [
        (token_id, logp)
        for row in rows
        for token_id, bit, logp in zip(
            row.token_ids_T, row.loss_mask_T, row.sampling_logps_T, strict=True
        )
        if bit
    ]
    samples = sampled_events(episode)
    assert [token_id for token_id, _ in trained] == [i for s in samples for i in s.token_ids]
    assert [logp for _, logp in trained] == [x for s in samples for x in s.sampling_logps]
    assert num_sampled_tokens(rows) == len(trained)
    assert all(row.advantage == -0.5 for row in rows)


@given(st.integers(1, 3), st.integers(0, 4), st.integers(1, 4))
def test_an_update_takes_whole_groups_whatever_the_number_of_processes(
    num_updates: int, num_first: int, group_size: int
) -> None:
    episode = built_episode([[(2, 1, 0)], [(1, 0, 0), (3, 1, 2)]])
    group = [episode.model_copy(update={"sample_index": n}) for n in range(group_size)]
    marks = [made_score(advantage=float(place)) for place in range(1, 6)]
    groups = [(group, [mark] * group_size) for mark in marks]
    whole = make_minibatches(groups, first_group=0, num_updates=num_updates)
    for number, rows in enumerate(whole):
        advantages = [mark.advantage for mark in marks[number::num_updates]]
        assert [row.advantage for row in rows[:: 2 * group_size]] == advantages
        assert len(rows) == 2 * group_size * len(advantages), "two rows per episode"
    parts = [
        make_minibatches(groups[start:end], first_group=start, num_updates=num_updates)
        for start, end in ((0, num_first), (num_first, 5))
    ]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


def made_score(*, advantage: float) -> Score:
    return Score(
        outcome=1.0, solved=True, scorable=True, cost=1.0, advantage=advantage, components={}
    )


@given(segment_sizes)
def test_every_sampled_token_keeps_its_context(segments: list[list[TurnSizes]]) -> None:
    episode = built_episode(segments)
    check_contexts(episode)
    rows = {row.token_ids_T[0]: row for row in make_rows(episode, advantage=1.0)}
    for ids in episode.segment_ids:
        if ids[0] in rows:
            row = rows[ids[0]]
            assert ids[: len(row.token_ids_T)] == row.token_ids_T
            assert row.loss_mask_T[-1] == 1  # cut behind the last sampled token
            assert row.loss_mask_T[0] == 0


def test_rows_of_a_known_episode() -> None:
    episode = built_episode([[(2, 1, 1), (1, 0, 2)], [(0, 0, 1)], [(1, 0, 0)]])
    first, last = make_rows(episode, advantage=0.25)
    assert first.loss_mask_T == (0, 0, 0, 1, 1, 0, 0, 1)
    assert first.sampling_logps_T == (0.0, 0.0, 0.0, -4.0, -5.0, 0.0, 0.0, -8.0)
    assert last.loss_mask_T == (0, 0, 0, 1)
    assert first.episode_id == last.episode_id == "step3/group1/2"


@pytest.mark.parametrize("stop", [StopReason.TIMEOUT, StopReason.ENVIRONMENT_ERROR, None])
def test_an_unscorable_episode_gives_no_rows(stop: StopReason | None) -> None:
    episode = built_episode([[(2, 1, 1), (1, 0, 2)], [(1, 0, 0)]])
    assert len(make_rows(episode, advantage=0.0)) == 2
    died = Outcome(
        fail_to_pass_rate=0, pass_to_pass_rate=0, unscorable="died", sandbox_level="none"
    )
    change = {"stop_reason": stop} if stop else {"outcome": died}
    assert make_rows(episode.model_copy(update=change), advantage=0.0) == []


def test_a_record_that_differs_from_its_samples_is_refused() -> None:
    episode = built_episode([[(2, 0, 1), (1, 0, 0)]])
    (ids,) = episode.segment_ids
    changed = episode.model_copy(update={"segment_ids": ((*ids[:3], 99, *ids[4:]),)})
    with pytest.raises(AssertionError, match="differs from what was sampled"):
        make_rows(changed, advantage=1.0)


def test_a_context_that_differs_from_its_view_is_refused() -> None:
    episode = built_episode([[(2, 0, 1), (1, 0, 0)], [(1, 0, 0)]])
    first, second = episode.segment_ids
    for changed in (((99, *first[1:]), second), (first, (99, *second[1:]))):
        with pytest.raises(AssertionError, match="differs from its view"):
            check_contexts(episode.model_copy(update={"segment_ids": changed}))


@given(st.lists(st.integers(2, 40), max_size=30), st.integers(1, 120))
def test_microbatches_hold_every_row_once_under_the_budget(
    lengths: list[int], max_tokens: int
) -> None:
    lengths = sorted(lengths, reverse=True)
    sizes = size_microbatches(lengths, max_tokens=max_tokens)
    assert sum(sizes) == len(lengths)
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    for size, start in zip(sizes, starts, strict=True):
        assert size == 1 or size * lengths[start] <= max_tokens
        is_full = (size + 1) * lengths[start] > max_tokens
        assert is_full or start + size == len(lengths)


row_facts = st.integers(1, 400).flatmap(
    lambda length: st.tuples(st.just(length), st.integers(0, length))
)


@given(
    st.integers(1, 3).flatmap(
        lambda num: st.lists(st.tuples(*[row_facts] * num), min_size=1, max_size=20)
    ),
    st.integers(1, 1000),
)
def test_packed_microbatches_fit_in_every_process_and_take_what_fits(
    rows: list[tuple[tuple[int, int], ...]], max_tokens: int
) -> None:
    processes = list(zip(*rows, strict=True))
    sizes = size_packed(processes, max_tokens=max_tokens)
    assert sum(sizes) == len(rows)
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    for size, start in zip(sizes, starts, strict=True):
        assert size == 1 or fits(processes, start, start + size, max_tokens)
        assert start + size == len(rows) or not fits(processes, start, start + size + 1, max_tokens)


def fits(
    processes: list[tuple[tuple[int, int], ...]], start: int, stop: int, max_tokens: int
) -> bool:
    """Tell whether rows make a micro-batch: the first whole, of the others what is not shared."""
    for rows in processes:
        lengths = [length for length, _ in rows[start:stop]]
        shared = sum(alike for _, alike in rows[start + 1 : stop] if alike >= LEAST_SHARED)
        if sum(lengths) - shared > max_tokens or sum(lengths) > MOST_SHARING * max_tokens:
            return False
    return True


def test_a_filler_needs_no_rows() -> None:
    filler = make_filler([], end_id=7)
    assert filler.token_ids_T == (7, 7)
    assert not any(filler.loss_mask_T)


@given(segment_sizes, st.floats(1, 10))
def test_context_actions_weigh_more_and_the_episode_as_before(
    segments: list[list[TurnSizes]], weight: float
) -> None:
    episode = built_episode(segments)
    rows = make_rows(episode, advantage=0.5, context_action_weight=weight)
    weights = [
        w
        for row in rows
        for w, bit in zip(row.weights_T or row.loss_mask_T, row.loss_mask_T, strict=True)
        if bit
    ]
    assert sum(weights) == pytest.approx(num_sampled_tokens(rows))
    plain = [row.model_copy(update={"weights_T": ()}) for row in rows]
    assert plain == make_rows(episode, advantage=0.5)


def test_weights_by_hand() -> None:
    episode = built_episode([[(2, 0, 1), (1, 0, 0)], [(3, 0, 1)]])  # the second turn compacts
    first, second = make_rows(episode, advantage=0.5, context_action_weight=4)
    mean = (2 + 4 * 1 + 3) / 6
    sampled = [w for w, bit in zip(first.weights_T, first.loss_mask_T, strict=True) if bit]
    assert sampled == pytest.approx([1 / mean, 1 / mean, 4 / mean])
    assert second.weights_T[-3:] == pytest.approx([1 / mean] * 3)
