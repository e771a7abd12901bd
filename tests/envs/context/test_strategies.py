"""What each strategy does by itself, and when; laws of all of them stand in test_laws.py."""

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.context.strategies import (
    NET_FILL,
    Automatic,
    draw_thresholds,
    plan_automatic,
    read_summary,
)
from envs.environment import Environment, Limits
from envs.habits.options import ScriptOptions
from envs.policies import ScriptedPolicy, call, make_script
from envs.prompts import SUMMARIZE, system_prompt
from envs.records import (
    Behaviour,
    Compacted,
    Evicted,
    Observation,
    StopReason,
    Strategy,
    Thresholds,
)
from envs.tools import NAMES, list_tools
from tests.envs.world import CHAT, FILES, HIDDEN, TASK, new_environment, sample_of, sample_text

LONG = {**FILES, "long.py": "".join(f"value_{n} = {n}\n" for n in range(200))}
LIMITS = Limits(window_tokens=900, max_turns=40, max_new_tokens=48, observation_tokens=160)


def reading(
    strategy: str, thresholds: Thresholds | None, *, limits: Limits = LIMITS
) -> Environment:
    return new_environment(strategy=strategy, thresholds=thresholds, files=LONG, limits=limits)


def read(environment: Environment, number: int = 1) -> None:
    for _ in range(number):
        start = 1 + 3 * len(environment.events)
        environment.step(
            sample_of([call("read_lines", path="long.py", start=start, end=start + 2)])
        )


def read_until_asked(environment: Environment) -> None:
    for _ in range(20):
        if not environment.view().asks_summary:
            read(environment)
    assert environment.view().asks_summary


def live(environment: Environment) -> list[str]:
    return [each.id for each in environment.view().observations]


@given(
    keep_last=st.integers(1, 10),
    evict_batch=st.integers(1, 5),
    num_shown=st.integers(0, 12),
    num_new=st.integers(0, 4),
    is_full=st.booleans(),
)
def test_masking_never_takes_one_of_the_last_results(
    keep_last: int, evict_batch: int, num_shown: int, num_new: int, is_full: bool
) -> None:
    rule = Automatic(mask_at=10, keep_last=keep_last, evict_batch=evict_batch)
    shown = [
        Observation(id=f"o{n}", text="", num_tokens=1, remaining_tokens=0) for n in range(num_shown)
    ]
    masked = rule.list_masked(shown, num_new=num_new, num_held=None if is_full else 5)
    kept = [each.id for each in shown][max(0, num_shown + num_new - keep_last) :]
    assert not set(masked) & set(kept)


def test_masking_leaves_the_last_results_and_acts_in_batches() -> None:
    environment = reading("mask", Thresholds(fill=1.0, keep_last=2, evict_batch=3))
    read(environment, 4)
    assert live(environment) == ["o1", "o2", "o3", "o4"] and environment.view().num_rewrites == 0
    read(environment)
    assert live(environment) == ["o4", "o5"]
    (evicted,) = [event for event in environment.events if isinstance(event, Evicted)]
    assert evicted.automatic and set(evicted.stub_ids) == {"o1", "o2", "o3"}
    read(environment, 2)
    assert live(environment) == ["o4", "o5", "o6", "o7"], "the same beginning, for a cache"
    last = environment.view().observations[-1]
    assert last.remaining_tokens == 900 - 48 - len(environment.view().prompt_ids)


def test_masking_begins_early_where_the_window_is_full() -> None:
    environment = reading("mask", Thresholds(fill=0.3, keep_last=1, evict_batch=9))
    read(environment, 6)
    assert environment.view().num_rewrites and len(live(environment)) < 6
    assert len(environment.view().prompt_ids) < 0.5 * 852


def test_a_turn_with_more_results_than_stay_shows_all_of_them_once() -> None:
    environment = reading("mask", Thresholds(fill=1.0, keep_last=1, evict_batch=1))
    read(environment)
    calls = [call("read_lines", path="long.py", start=n, end=n) for n in (50, 60, 70)]
    environment.step(sample_of(calls))
    assert live(environment) == ["o2", "o3", "o4"]


def test_a_summary_is_asked_for_sampled_and_replaces_all_else() -> None:
    environment = reading("summarize", Thresholds(fill=0.4))
    read_until_asked(environment)
    request = environment.view().observations[-1]
    assert request.text.endswith(SUMMARIZE) and len(environment.view().prompt_ids) >= 0.4 * 852
    before = len(environment._turns)
    environment.step(sample_text("m0 is fixed, m1 is left"))
    compacted = environment.events[-1]
    assert isinstance(compacted, Compacted) and compacted.automatic
    assert compacted.summary == "m0 is fixed, m1 is left"
    view = environment.view()
    assert not view.asks_summary and view.observations == ()
    assert "so far: m0 is fixed" in CHAT.decode(view.prompt_ids)
    assert len(environment._turns) == before + 1


def test_what_a_summary_calls_is_not_carried_out() -> None:
    environment = reading("summarize", Thresholds(fill=0.4))
    read_until_asked(environment)
    edit = call("edit_lines", path="m0.py", start=1, end=1, text="x = 1")
    environment.step(sample_of([edit, call("submit")]))
    assert environment.workspace.files == LONG and environment.stop_reason is None


@pytest.mark.parametrize("strategy", ["summarize", "hybrid", "learned_net"])
def test_results_without_room_are_left_out_and_a_summary_saves_the_episode(strategy: str) -> None:
    limits = Limits(window_tokens=420, max_turns=60, max_new_tokens=48, observation_tokens=160)
    thresholds = Thresholds(fill=NET_FILL, keep_last=1, evict_batch=1)
    environment = reading(strategy, thresholds, limits=limits)
    num_asked = 0
    for _ in range(30):
        if environment.view().asks_summary:
            num_asked += 1
            environment.step(sample_text("read"))
        else:
            calls = [call("read_lines", path="long.py", start=n, end=n + 9) for n in (1, 40)]
            environment.step(sample_of(calls))
    assert environment.stop_reason is None and num_asked > 1
    full = reading("full_history", None, limits=limits)
    while full.stop_reason is None:
        full.step(sample_of([call("read_lines", path="long.py", start=1, end=10)]))
    assert full.stop_reason is StopReason.CONTEXT_OVERFLOW


def test_the_limit_of_rewrites_counts_the_models_own() -> None:
    limits = Limits(500, 80, 48, 160, max_rewrites=1)
    environment = reading("learned_net", Thresholds(fill=NET_FILL), limits=limits)
    for _ in range(12):
        if environment.view().asks_summary:
            environment.step(sample_text("read"))
        else:
            environment.step(sample_of([call("read_file", path="long.py")]))
    assert environment.view().num_rewrites > 2
    assert not environment.view().asks_summary and environment.stop_reason is None
    environment.step(sample_of([call("compact", summary="mine")]))
    own = [e for e in environment.events if isinstance(e, Compacted) and not e.automatic]
    assert len(own) == 1 and environment.stop_reason is None
    environment.step(sample_of([call("compact", summary="again")]))
    assert "at most 1 rewrites" in environment.view().observations[-1].text


def test_without_thresholds_nothing_happens_by_itself() -> None:
    for strategy in get_args(Strategy):
        assert plan_automatic(strategy, None, view_limit=100, turn_tokens=50) == Automatic()


def test_thresholds_are_drawn_between_their_ends_and_only_where_they_are_read() -> None:
    drawn = {
        strategy: [
            draw_thresholds(
                strategy,
                fill=(0.5, 0.75),
                keep_last=(2, 4),
                evict_batch=3,
                rng=random.Random(seed),
            )
            for seed in range(40)
        ]
        for strategy in get_args(Strategy)
    }
    assert set(drawn["learned"]) == set(drawn["full_history"]) == {None}
    assert set(drawn["learned_net"]) == {Thresholds(fill=NET_FILL)}
    for each in drawn["hybrid"]:
        assert each and 0.5 <= each.fill <= 0.75 and each.keep_last in (2, 3, 4)
    assert {each.keep_last for each in drawn["mask"] if each} == {2, 3, 4}
    fills = [[each.fill for each in drawn[name] if each] for name in ("mask", "summarize")]
    assert fills[0] == fills[1] and len(set(fills[0])) > 20, "arms meet the same draws"


def test_the_prompt_offers_exactly_the_tools_of_its_strategy() -> None:
    for strategy in get_args(Strategy):
        text = system_prompt("brief", strategy, example="e")
        offered = {name for name in NAMES if f"\n{name}(" in text}
        assert offered == set(list_tools(strategy))
        for name in {"evict", "compact"} - offered:
            assert name not in text
        assert ("summarize now" in text) == (strategy in ("summarize", "hybrid", "learned_net"))
    for missing in get_args(Behaviour):
        text = system_prompt("brief", "learned", example="e", without=[missing])
        offered = {name for name in NAMES if f"\n{name}(" in text}
        assert offered == set(NAMES) - {missing}
        assert missing in ("search", "plan") or missing not in text, "nor any advice to use it"
    assert list_tools("learned") == list_tools("learned_net") == NAMES
    assert len({system_prompt("brief", s, example="e") for s in get_args(Strategy)}) == 6


@pytest.mark.parametrize(
    ("text", "calls", "summary"),
    [
        ("m0 done ", [], "m0 done"),
        ("<think>well</think>\nm0 done", [], "m0 done"),
        ("<tool_call>...", [call("compact", summary="short")], "short"),
        ("read it", [call("read_file", path="a.py")], "read it"),
        ("as it is", [call("compact", summary=3)], "as it is"),
        ("", [], ""),
    ],
)
def test_a_summary_is_text_or_that_of_a_call(text: str, calls: list, summary: str) -> None:  # type: ignore[type-arg]
    assert read_summary(text, calls) == summary


@pytest.mark.parametrize("find", ["search", "file"])
@pytest.mark.parametrize("strategy", ["mask", "summarize", "hybrid", "learned_net"])
def test_a_script_repairs_under_every_strategy_where_a_reader_overflows(
    strategy: str, find: str
) -> None:
    limits = Limits(window_tokens=340, max_turns=20, max_new_tokens=48, observation_tokens=160)
    options = ScriptOptions(find=find, rewrite="none")  # type: ignore[arg-type]

    def play(environment: Environment) -> Environment:
        script = make_script(
            "careful", task=TASK, hidden=HIDDEN, files=FILES, chat=CHAT, options=options
        )
        policy = ScriptedPolicy(script, chat=CHAT, max_new_tokens=48)
        while environment.stop_reason is None:
            environment.step(policy.next_sample(environment.view()))
        return environment

    thresholds = Thresholds(fill=0.7, keep_last=1, evict_batch=1)
    done = play(new_environment(limits=limits, strategy=strategy, thresholds=thresholds))
    assert done.stop_reason is StopReason.SUBMITTED and done.view().num_rewrites
    assert all(edit.text in done.workspace.files[edit.path] for edit in HIDDEN.gold_edits)
    plain = play(new_environment(limits=limits, strategy="full_history"))
    assert plain.stop_reason is StopReason.CONTEXT_OVERFLOW
