"""The loop keeps the window, stops for named reasons, and carries notes through rewrites."""

import asyncio
import time
from dataclasses import replace

import pytest

from envs.context.event_log import render_view
from envs.environment import EpisodeMetadata, Limits
from envs.errors import InfrastructureError
from envs.habits.options import ScriptOptions
from envs.policies import call
from envs.records import (
    Compacted,
    Episode,
    Evicted,
    Noted,
    Observed,
    Sampled,
    Span,
    StopReason,
    ToolCall,
)
from envs.tools import NAMES, no_sandbox
from rewards.cost import billed_tokens
from tests.envs.world import (
    CHAT,
    FILES,
    LIMITS,
    new_environment,
    play,
    sample_of,
    sample_text,
)
from tests.train.rl.rows import check_contexts
from tightrope_cli.pages.episodes import unfold

LONG = {**FILES, "long.py": "".join(f"value_{n} = {n}\n" for n in range(200))}


@pytest.mark.parametrize("window", [300, 340, 400, 520])
@pytest.mark.parametrize("rewrite", ["none", "evict", "compact"])
def test_no_view_ever_exceeds_the_window_less_one_sample(window: int, rewrite: str) -> None:
    limits = Limits(window_tokens=window, max_turns=12, max_new_tokens=48, observation_tokens=160)
    options = ScriptOptions(find="file", rewrite=rewrite)  # type: ignore[arg-type]
    episode = play("wasteful", limits=limits, options=options)
    assert all(turn.prompt_end <= window - 48 for turn in episode.turns)


def test_a_small_window_is_solved_with_compact_and_overflows_without() -> None:
    limits = Limits(window_tokens=330, max_turns=12, max_new_tokens=48, observation_tokens=160)
    forced = play("careful", limits=limits, options=ScriptOptions(rewrite="none"))
    solved = play("careful", limits=limits, options=ScriptOptions(rewrite="compact"))
    assert forced.stop_reason is StopReason.CONTEXT_OVERFLOW
    assert solved.stop_reason is StopReason.SUBMITTED
    assert any(isinstance(e, Compacted) for e in solved.events)


def test_observations_are_cut_with_a_pointer_never_silently() -> None:
    environment = new_environment(files=LONG)
    environment.step(sample_of([call("read_file", path="long.py")]))
    (observation,) = environment.view().observations
    assert "read_lines]" in observation.text and "more lines" in observation.text
    assert observation.num_tokens <= LIMITS.observation_tokens
    shown = observation.spans[0].end
    assert f"{shown}: value_{shown - 1}" in observation.text
    assert f"{shown + 1}: value" not in observation.text


def test_the_header_states_size_and_exactly_what_remains() -> None:
    environment = new_environment()
    for _ in range(3):
        environment.step(sample_of([call("outline", path="m0.py")]))
        view = environment.view()
        last = view.observations[-1]
        assert last.remaining_tokens == LIMITS.window_tokens - 48 - len(view.prompt_ids)
        assert last.text.startswith(f"[{last.id} {last.num_tokens}/{last.remaining_tokens}]\n")


def test_all_results_of_a_turn_are_one_suffix_in_order() -> None:
    environment = new_environment()
    calls = [call("list_files"), call("nothing"), call("search", pattern="def")]
    environment.step(sample_of(calls))
    (observed,) = [e for e in environment.events if isinstance(e, Observed)]
    texts = [o.text for o in observed.observations]
    assert "m0.py" in texts[0] and "unknown tool" in texts[1] and "m1.py:1: def" in texts[2]


def test_inside_the_reserve_only_rewrites_and_submit_go_on() -> None:
    limits = Limits(window_tokens=200, max_turns=30, max_new_tokens=48, observation_tokens=160)
    environments = [new_environment(limits=limits) for _ in range(3)]
    for environment in environments:
        while environment.view().prompt_ids and _room(environment) >= 70:
            environment.step(sample_of([call("outline", path="m0.py")]))
        assert environment.stop_reason is None
    reading, compacting, submitting = environments
    reading.step(sample_of([call("outline", path="m0.py"), call("outline", path="m1.py")]))
    assert reading.stop_reason is StopReason.CONTEXT_OVERFLOW
    compacting.step(sample_of([call("compact", summary="seen m0")]))
    assert compacting.stop_reason is None and compacting.view().num_rewrites == 1
    submitting.step(sample_of([call("submit")]))
    assert submitting.stop_reason is StopReason.SUBMITTED


def _room(environment) -> int:  # type: ignore[no-untyped-def]
    return environment.limits.window_tokens - 48 - len(environment.view().prompt_ids)


def test_one_silent_turn_is_told_and_the_second_in_a_row_ends() -> None:
    environment = new_environment()
    environment.step(sample_text("Let me think."))
    assert "no tool call" in environment.view().observations[-1].text
    for calls in ([call("list_files")], [call("compact", summary="seen")]):
        environment.step(sample_of(calls))
        environment.step(sample_text("Hm."))
        assert environment.stop_reason is None
    environment.step(sample_text("Hm."))
    assert environment.stop_reason is StopReason.NO_TOOL_CALL


def test_turn_and_token_limits_stop() -> None:
    few = new_environment(limits=Limits(400, 2, 48, 160))
    few.step(sample_of([call("list_files")]))
    few.step(sample_of([call("list_files")]))
    assert few.stop_reason is StopReason.TURN_LIMIT
    short = new_environment(limits=Limits(400, 9, 48, 160, max_sampled_tokens=5))
    short.step(sample_of([call("outline", path="m0.py")]))
    assert short.stop_reason is StopReason.TOKEN_LIMIT


def test_rewrites_are_refused_when_small_unknown_too_many_or_not_offered() -> None:
    environment = new_environment(limits=Limits(600, 30, 48, 160, max_rewrites=1))
    environment.step(sample_of([call("list_files")]))
    environment.step(sample_of([call("evict", observation_ids=["o1"])]))
    assert "at least 60" in environment.view().observations[-1].text
    environment.step(sample_of([call("evict", observation_ids=["o9"])]))
    assert "in view" in environment.view().observations[-1].text
    environment.step(sample_of([call("read_file", path="m0.py")]))
    environment.step(sample_of([call("evict", observation_ids=["o4"])]))
    assert any(isinstance(e, Evicted) for e in environment.events)
    environment.step(sample_of([call("compact", summary="x")]))
    assert "at most 1 rewrites" in environment.view().observations[-1].text
    whole = new_environment(strategy="full_history")
    whole.step(sample_of([call("compact", summary="x")]))
    said = whole.view().observations[-1].text
    assert "unknown tool" in said
    assert "evict" not in said


def test_compact_must_be_the_last_call_of_its_turn() -> None:
    environment = new_environment()
    environment.step(sample_of([call("compact", summary="x"), call("list_files")]))
    assert "last call" in environment.view().observations[0].text
    assert not any(isinstance(e, Compacted) for e in environment.events)


def test_notes_move_behind_the_task_at_a_rewrite_with_updated_pointers() -> None:
    environment = new_environment(limits=Limits(700, 30, 48, 160))
    environment.step(sample_of([call("note", file="m0.py", facts="lum is fine", lines="6-8")]))
    before = environment.view().prompt_ids
    assert "note m0.py" not in CHAT.decode(before)
    environment.step(
        sample_of([call("edit_lines", path="m0.py", start=1, end=0, text="import os\nimport re")])
    )
    assert environment.view().prompt_ids[: len(before)] == before
    environment.step(sample_of([call("compact", summary="noted")]))
    assert "note m0.py:8-10 lum is fine" in CHAT.decode(environment.view().prompt_ids)


def test_every_turn_is_billed_also_failed_calls_and_compactions() -> None:
    environment = new_environment()
    expected = 0
    for calls in ([call("nothing")], [call("compact", summary="x")], [call("submit")]):
        sample = sample_of(calls)
        expected += len(environment.view().prompt_ids) + len(sample.token_ids)
        environment.step(sample)
    episode = environment.record(EpisodeMetadata("g", 0, 0, "x", 0, 0.0, False), outcome=None)
    assert billed_tokens(episode) == expected
    assert len(episode.turns) == sum(isinstance(e, Sampled) for e in episode.events) == 3


def test_gold_is_cheapest_and_noop_is_one_turn() -> None:
    costs = {name: billed_tokens(play(name)) for name in ("gold", "careful", "noop")}
    assert costs["gold"] < costs["careful"]
    assert len(play("noop").turns) == 1


def test_a_script_plays_the_same_episode_twice() -> None:
    assert play("careful") == play("careful")


def test_the_log_only_grows() -> None:
    environment = new_environment()
    seen: list[object] = []
    for calls in ([call("read_file", path="m0.py")], [call("evict", observation_ids=["o1"])]):
        environment.step(sample_of(calls))
        assert environment.events[: len(seen)] == seen
        seen = list(environment.events)
    assert render_view(environment.events) == environment.view()
    assert asyncio.iscoroutinefunction(type(environment).step) is False


def test_compact_waits_until_an_earlier_failure_of_its_turn_was_seen() -> None:
    environment = new_environment()
    bad = call("edit_lines", path="m0.py", start=90, end=91, text="x")
    environment.step(sample_of([bad, call("compact", summary="edited")]))
    assert len(environment.view().observations) == 2
    assert "an earlier call" in environment.view().observations[-1].text
    good = call("edit_lines", path="m0.py", start=3, end=3, text="    return 1")
    environment.step(sample_of([good, call("compact", summary="edited")]))
    assert environment.view().num_rewrites == 1


def test_lines_that_were_cut_away_count_neither_as_shown_nor_in_the_span() -> None:
    environment = new_environment(limits=Limits(700, 30, 200, 64))
    text = "\n".join(f"x{n} = {n}" for n in range(12))
    environment.step(sample_of([call("edit_lines", path="m0.py", start=9, end=8, text=text)]))
    (shown,) = environment.view().observations
    *_, last, note = shown.text.splitlines()
    assert note.startswith("[cut, ") and shown.spans[0].end == int(last.split(":")[0])
    workspace = environment.workspace
    assert not workspace.is_stale(shown.spans[0])
    beyond = shown.spans[0].end + 1
    assert workspace.is_stale(Span(path="m0.py", start=beyond, end=beyond))


def test_a_huge_result_is_cut_at_once() -> None:
    environment = new_environment()
    environment.workspace.files["m0.py"] = "\n".join(f"value_{n} = {n}" for n in range(20_000))
    began = time.process_time()
    environment.step(sample_of([call("read_file", path="m0.py")]))
    assert "more lines" in environment.view().observations[0].text
    assert time.process_time() - began < 10, "line by line it took minutes"


BROKEN_TURNS = {
    "first call": [call("run_tests")],
    "behind others": [call("read_file", path="m0.py"), call("run_tests"), call("list_files")],
    "with a rewrite": [call("evict", observation_ids=["o1"]), call("run_tests")],
    "with a submit": [call("run_tests"), call("submit")],
}


@pytest.mark.parametrize("calls", BROKEN_TURNS.values(), ids=BROKEN_TURNS)
@pytest.mark.parametrize("turns_before", [0, 1, 3])
def test_a_record_is_whole_wherever_a_tool_fails(calls: list[ToolCall], turns_before: int) -> None:
    limits = Limits(700, 30, 48, 160)
    environment = new_environment(limits=limits, run_visible=no_sandbox)
    for _ in range(turns_before):
        environment.step(sample_of([call("read_file", path="m0.py")]))
    sampled = len(environment.view().prompt_ids) + len(sample_of(calls).token_ids)
    before = sum(turn.sample_end for turn in environment._turns)
    with pytest.raises(InfrastructureError):
        environment.step(sample_of(calls))
    environment.stop_reason = StopReason.ENVIRONMENT_ERROR
    made = environment.record(EpisodeMetadata("g", 0, 0, "x", 0, 0.0, False), outcome=None)
    episode = Episode.model_validate_json(made.model_dump_json())
    assert episode == made
    assert len(episode.turns) == sum(isinstance(e, Sampled) for e in episode.events)
    assert len(episode.turns) == turns_before + 1
    assert billed_tokens(episode) == before + sampled, "what was sampled is billed"
    check_contexts(episode)
    assert len(unfold(episode, decode=None).turns) == len(episode.turns)


def test_a_note_points_to_the_lines_as_they_were_when_it_was_made() -> None:
    environment = new_environment(limits=Limits(700, 30, 200, 160))
    insert = call("edit_lines", path="m0.py", start=1, end=0, text="import os\nimport re")
    note = call("note", file="m0.py", facts="lum is fine", lines="6-8")
    environment.step(sample_of([note, insert]))
    environment.step(sample_of([call("compact", summary="noted")]))
    assert "note m0.py:8-10 lum is fine" in CHAT.decode(environment.view().prompt_ids)


def test_a_tool_that_was_taken_away_is_unknown_and_changes_nothing() -> None:
    environment = new_environment(without=["read_lines", "note"])
    calls = [
        call("read_lines", path="m0.py", start=1, end=2),
        call("note", file="m0.py", facts="x", lines="1"),
        call("read_file", path="m1.py"),
    ]
    environment.step(sample_of(calls))
    texts = [each.body for each in environment.view().observations]
    offered = [name for name in NAMES if name not in ("read_lines", "note")]
    assert texts[:2] == ["error: unknown tool, use one of: " + ", ".join(offered)] * 2
    assert texts[2].startswith("1: def zor")
    assert not any(isinstance(event, Noted) for event in environment.events)


def test_without_a_plan_notes_are_refused_until_something_was_read() -> None:
    note = call("note", file="m0.py", facts="read qax", lines="1-3")
    environment = new_environment(limits=replace(LIMITS, window_tokens=2000), without=["plan"])
    environment.step(sample_of([call("search", pattern="qax"), note]))
    assert environment.view().observations[-1].was_refused
    environment.step(sample_of([call("read_lines", path="m9.py", start=1, end=2), note]))
    assert environment.view().observations[-1].was_refused, "that read failed"
    environment.step(sample_of([call("read_lines", path="m0.py", start=1, end=3)]))
    environment.step(sample_of([note]))
    assert environment.view().observations[-1].body == "noted"
    assert sum(isinstance(event, Noted) for event in environment.events) == 1
