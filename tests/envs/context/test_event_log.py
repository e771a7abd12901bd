"""Views are pure functions of an append-only log; segments end where a context is rewritten."""

from pathlib import Path

import pytest

from envs.context.event_log import EventLog, common_prefix, join_observed, render_view
from envs.environment import Limits
from envs.habits.options import ScriptOptions
from envs.policies import call
from envs.records import Compacted, Episode, Evicted, Observation, Observed, Sampled
from envs.rendering import ChatFormat
from tests.envs.world import CHAT, ROOT, TOKENIZER, new_environment, play, sample_of
from tests.train.rl.rows import check_contexts
from train.rl.segments import make_rows

WIDE = Limits(window_tokens=700, max_turns=12, max_new_tokens=48, observation_tokens=160)
OPTIONS = {
    "evict": ScriptOptions(find="file", rewrite="evict", eager=True),
    "compact": ScriptOptions(find="file", rewrite="compact", eager=True),
    "plain": ScriptOptions(find="outline", rewrite="none", test_after=True),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_prompt_is_the_view_of_the_events_before_it(options: ScriptOptions) -> None:
    episode = play("careful", options=options, limits=WIDE)
    check_contexts(episode)


@pytest.mark.parametrize("name", ["evict", "compact"])
def test_a_rewrite_ends_the_segment_and_its_call_is_trained_under_the_full_old_view(
    name: str,
) -> None:
    episode = play("careful", options=OPTIONS[name], limits=WIDE)
    kind = {"evict": Evicted, "compact": Compacted}[name]
    rewrite = next(i for i, e in enumerate(episode.events) if isinstance(e, kind))
    sampled = [e for e in episode.events[:rewrite] if isinstance(e, Sampled)]
    turn = episode.turns[len(sampled) - 1]
    assert name in [c.name for c in turn.calls]
    assert turn.segment == 0 and episode.turns[len(sampled)].segment == 1
    old_view = render_view(episode.events[: episode.events.index(sampled[-1])])
    row = make_rows(episode, advantage=1.0)[0]
    assert row.token_ids_T == old_view.prompt_ids + sampled[-1].token_ids
    assert all(row.loss_mask_T[turn.prompt_end : turn.sample_end])


def test_without_rewrites_there_is_one_segment_and_each_prompt_extends_the_last() -> None:
    episode = play("careful", options=OPTIONS["plain"], limits=WIDE)
    assert len(episode.segment_ids) == 1
    for before, after in zip(episode.turns, episode.turns[1:], strict=False):
        assert after.num_cached == before.sample_end <= after.prompt_end


def test_each_sampled_token_is_trained_once_and_exactly_as_sampled() -> None:
    for options in OPTIONS.values():
        episode = play("careful", options=options, limits=WIDE)
        rows = make_rows(episode, advantage=1.0)
        trained = [
            token
            for row in rows
            for token, mask in zip(row.token_ids_T, row.loss_mask_T, strict=True)
            if mask
        ]
        sampled = [t for e in episode.events if isinstance(e, Sampled) for t in e.token_ids]
        assert trained == sampled


def test_ids_that_reencode_differently_are_trained_as_sampled() -> None:
    """A model may sample ids that the tokenizer itself would never produce (invariant 1)."""
    environment = new_environment()
    text = CHAT.call_ids([call("search", pattern="def")])[:-1]
    split = [i for token in text for i in _spelled(token)]
    assert tuple(split) != text and CHAT.decode(split) == CHAT.decode(text)
    sample = sample_of([call("submit")]).model_copy(
        update={"token_ids": (*split, CHAT.eot_id), "sampling_logps": (-1.0,) * (len(split) + 1)}
    )
    environment.step(sample)
    tail = CHAT.surround_results(["search"]).tail
    assert environment.view().prompt_ids[-len(tail) :] == tail
    start = len(environment.events[0].prefix_ids)  # type: ignore[union-attr]
    assert environment.view().prompt_ids[start : start + len(split)] == tuple(split)
    assert [o.id for o in environment.view().observations] == ["o1"]


def _spelled(token: int) -> list[int]:
    """Return the ids of a token's single bytes, or the token if it is special."""
    piece = TOKENIZER.id_to_token(token)
    if piece.startswith("<"):
        return [token]
    return [TOKENIZER.token_to_id(character) for character in piece]


def test_a_sample_cut_at_its_limit_gets_an_unsampled_end_of_turn() -> None:
    environment = new_environment()
    whole = CHAT.call_ids([call("search", pattern="def")])
    cut = sample_of([call("submit")]).model_copy(
        update={
            "token_ids": whole[:-1],
            "sampling_logps": (-1.0,) * (len(whole) - 1),
            "finish": "length",
        }
    )
    environment.step(cut)
    sampled = next(e for e in environment.events if isinstance(e, Sampled))
    assert sampled.closing_ids == (CHAT.eot_id,)
    prompt = environment.view().prompt_ids
    start = len(environment.events[0].prefix_ids)  # type: ignore[union-attr]
    assert whole == prompt[start : start + len(whole)]


def test_the_log_alone_rebuilds_the_view_from_a_saved_file(tmp_path: Path) -> None:
    episode = play("careful", options=OPTIONS["evict"], limits=WIDE)
    file = tmp_path / "episode.json"
    file.write_text(episode.model_dump_json())
    again = Episode.model_validate_json(file.read_text())
    assert again == episode
    for end in range(1, len(episode.events) + 1):
        assert render_view(again.events[:end]) == render_view(episode.events[:end])


def test_evicted_results_leave_one_line_and_compacted_turns_leave_nothing() -> None:
    evicted = play("careful", options=OPTIONS["evict"], limits=WIDE)
    view = render_view(evicted.events)
    stubs = next(e for e in evicted.events if isinstance(e, Evicted)).stub_ids
    assert not set(stubs) & {o.id for o in view.observations}
    for name, ids in stubs.items():
        assert CHAT.decode(ids).startswith(f"[{name} out") and "\n" not in CHAT.decode(ids)
    compacted = play("careful", options=OPTIONS["compact"], limits=WIDE)
    at = next(i for i, e in enumerate(compacted.events) if isinstance(e, Compacted))
    after = render_view(compacted.events[: at + 1])
    assert after.observations == () and "so far: fixed" in CHAT.decode(after.prompt_ids)


def test_only_results_of_the_environment_carry_no_loss() -> None:
    episode = play("careful", options=OPTIONS["plain"], limits=WIDE)
    row = make_rows(episode, advantage=1.0)[0]
    shown = [
        CHAT.decode(piece)
        for e in episode.events
        if isinstance(e, Observed)
        for piece in e.piece_ids
    ]
    unmasked = CHAT.decode(
        [t for t, m in zip(row.token_ids_T, row.loss_mask_T, strict=True) if not m]
    )
    assert shown and all(text in unmasked for text in shown[:-1])


def test_the_view_concatenates_frozen_ids_for_every_shipped_template() -> None:
    for path in sorted((ROOT / "train" / "models" / "templates").glob("*.jinja")):
        chat = ChatFormat(TOKENIZER, template=path.read_text())
        parts = chat.surround_results(["search"])
        assert parts.head and parts.tail, path.name


def test_common_prefix() -> None:
    assert common_prefix((1, 2), (1, 2, 3)) == 2
    assert common_prefix((1, 2, 3), (1, 9, 3)) == 1
    assert common_prefix((1, 2, 3), (1, 2)) == 2
    assert common_prefix((), (1,)) == 0


def test_each_result_stands_behind_its_own_separator() -> None:
    observations = tuple(
        Observation(id=f"o{n}", text="", num_tokens=1, remaining_tokens=1) for n in range(3)
    )
    observed = Observed(
        observations=observations,
        piece_ids=((1,), (2,), (3,)),
        head_ids=(10,),
        separator_ids=((20,), (21, 22)),
        tail_ids=(30,),
    )
    assert join_observed(observed, stubs={"o1": (9,)}) == [10, 1, 20, 9, 21, 22, 3, 30]
    old = observed.model_dump() | {"separator_ids": [20]}  # version 1: one that stands for all
    assert Observed.model_validate(old).separator_ids == ((20,), (20,))


def test_the_size_after_an_eviction_is_known_before_it() -> None:
    events = play("careful", options=OPTIONS["evict"], limits=WIDE).events
    at = next(i for i, event in enumerate(events) if isinstance(event, Evicted))
    log, eviction = EventLog(events[:at]), events[at]
    assert isinstance(eviction, Evicted)
    expected = len(render_view(events[: at + 1]).prompt_ids)
    assert log.count_after(eviction) == expected and log.count_freed(eviction) > 0
