"""The row of summary.json and the metrics of one training step."""

import json

import pytest

from envs.records import StopReason, ToolCall
from rewards.advantages import score_group
from rewards.metrics import compare, format_row, step_metrics, summarize
from tests.rewards.episodes import BAD_CALL, CALL, make_episode, rewrites

FIELDS = {
    "name",
    "num_tasks",
    "num_samples",
    "pass_rate",
    "pass_rate_ci95",
    "tokens_per_solved",
    "tokens_per_solved_ci95",
    "billed_tokens_mean",
    "peak_context_p50",
    "peak_context_p95",
    "turns_mean",
    "compactions_mean",
    "evictions_mean",
    "stop_reasons",
    "sampling",
}


def mixed():
    return [
        make_episode(task_id="a", turns=((100, 20), (200, 30)), cuts=frozenset({1})),
        make_episode(task_id="a", turns=((300, 50),), solved=False, events=rewrites(evictions=2)),
        make_episode(task_id="b", stop_reason=StopReason.TURN_LIMIT, calls=(BAD_CALL, CALL)),
        make_episode(task_id="b", unscorable="sandbox died", turns=((9000, 900),)),
    ]


def test_summary_has_the_published_fields_and_is_plain_json():
    row = summarize(mixed(), name="sft", sampling="temperature 1")
    assert set(row) >= FIELDS
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_summary_by_hand():
    row = summarize(mixed(), name="sft", sampling="temperature 1")
    assert (row["num_tasks"], row["num_samples"], row["num_unscorable"]) == (2, 3, 1)
    assert row["pass_rate"] == pytest.approx(1 / 3)
    # failed episodes are paid for as well: (350 + 350 + 120) / 1 solved
    assert row["tokens_per_solved"] == pytest.approx(820)
    assert row["billed_tokens_mean"] == pytest.approx(820 / 3)
    assert row["peak_context_p50"] == 200
    assert row["evictions_mean"] == pytest.approx(2 / 3)
    assert row["stop_reasons"] == {"submitted": 3, "turn_limit": 1}


def test_passes_that_are_not_believed_are_counted_and_suspects_are_not():
    said = [
        {"second_runner": "other tests pass", "tampered": True},
        {"recorded_calls": "recorded calls, sequence 3: f differs"},
        {"recorded_calls": "not asked; the change adds import os", "tampered": True},
        {"second_runner": "", "recorded_calls": ""},
        {},
    ]
    made = make_episode()
    judged = [
        made.model_copy(update={"outcome": made.outcome.model_copy(update=each)}) for each in said
    ]
    assert summarize(judged, name="sft", sampling="greedy")["num_disagreements"] == 2


@pytest.mark.parametrize(
    "episodes",
    [
        pytest.param([make_episode(solved=False)], id="nothing-solved"),
        pytest.param([make_episode(unscorable="sandbox died")], id="nothing-scored"),
        pytest.param([], id="nothing-at-all"),
    ],
)
def test_what_is_undefined_is_null(episodes):
    row = summarize(episodes, name="base", sampling="greedy")
    assert row["tokens_per_solved"] is None
    assert row["tokens_per_solved_ci95"] == [None, None]
    json.dumps(row, allow_nan=False)


def test_a_user_sees_in_which_forms_a_policy_writes_its_calls():
    mended = ToolCall(name="submit", format="fenced", repairs=("alias",))
    episodes = [
        make_episode(task_id="a", calls=(CALL, mended)),
        make_episode(task_id="b", calls=(BAD_CALL, CALL)),
    ]
    row = summarize(episodes, name="base", sampling="greedy")
    assert row["calls"] == {"hermes": 2, "fenced": 1, "none": 1, "malformed": 1, "mended": 1}
    scores = [score_group([each], cost_weight=0.0) for each in episodes]
    found = step_metrics([[each] for each in episodes], scores)
    assert (found["format/hermes"], found["format/fenced"], found["format/xml"]) == (0.5, 0.25, 0)
    assert found["share_mended_calls"] == found["share_malformed_calls"] == 0.25


def test_comparison_is_plain_json():
    found = compare(mixed(), mixed(), first_name="sft", second_name="grpo")
    assert (found["first"], found["second"], found["num_tasks"]) == ("sft", "grpo", 2)
    assert found["tokens_per_solved_ratio"] == pytest.approx(1)
    json.dumps(found, allow_nan=False)


def test_step_metrics_by_hand():
    solved = [make_episode(turns=((100, 20), (50, 20)), cuts=frozenset({1})), make_episode()]
    failed = [
        make_episode(solved=False, calls=(BAD_CALL,)),
        make_episode(solved=False, stop_reason=StopReason.NO_TOOL_CALL),
        make_episode(stop_reason=StopReason.ENVIRONMENT_ERROR, turns=((9000, 900),)),
    ]
    groups = [solved, failed]
    found = step_metrics(groups, [score_group(group) for group in groups])
    assert found["pass_rate"] == 0.5
    assert found["tokens_per_solved"] == pytest.approx((190 + 3 * 120) / 2)
    assert found["share_groups_without_signal"] == 0.5
    assert found["segments_per_episode"] == 1.25
    assert found["share_rows_rewritten"] == pytest.approx(1 / 5)
    assert found["share_malformed_calls"] == pytest.approx(1 / 5)
    assert found["num_unscorable"] == 1
    assert found["stop/no_tool_call"] == pytest.approx(1 / 5)
    assert found["peak_context"] == 100
    stops = [value for key, value in found.items() if key.startswith("stop/")]
    assert sum(stops) == pytest.approx(1)


def test_step_metrics_leave_out_what_has_no_value():
    group = [make_episode(solved=False)] * 2
    found = step_metrics([group], [score_group(group)])
    assert "tokens_per_solved" not in found
    assert found["share_groups_without_signal"] == 1.0
    alike = [make_episode()] * 2
    assert step_metrics([alike], [score_group(alike)])["share_groups_without_signal"] == 1.0
    broken = [make_episode(unscorable="sandbox died")]
    assert "pass_rate" not in step_metrics([broken], [score_group(broken)])


def test_unscorable_episodes_are_counted_by_what_failed():
    parts = ["tool", "grading", "grading", "worker", None]
    broken = [make_episode(unscorable="it died", failed_part=part) for part in parts]
    broken += [make_episode(stop_reason=StopReason.TIMEOUT)]
    group = [make_episode(), *broken]
    found = step_metrics([group], [score_group(group)])
    counts = {name: num for name, num in found.items() if name.startswith("unscorable/")}
    assert counts == {
        "unscorable/tool": 1,
        "unscorable/visible_tests": 0,
        "unscorable/grading": 2,
        "unscorable/worker": 1,
        "unscorable/server": 0,
        "unscorable/timeout": 1,
        "unscorable/other": 1,
    }
    assert sum(counts.values()) == found["num_unscorable"]
    row = summarize(group, name="sft", sampling="greedy")
    assert row["unscorable"] == {"tool": 1, "grading": 2, "worker": 1, "timeout": 1, "other": 1}


@pytest.mark.parametrize("num_scorable", [0, 1])
def test_a_group_that_the_machine_broke_says_nothing_about_signal(num_scorable):
    mixed_group = [make_episode(), make_episode(solved=False)]
    broken = [make_episode()] * num_scorable + [make_episode(unscorable="died")] * 3
    groups = [mixed_group, broken]
    found = step_metrics(groups, [score_group(group) for group in groups])
    assert found["share_groups_without_signal"] == 0.0


def test_a_row_is_shown_with_intervals_and_dashes() -> None:
    row = {"name": "sft", "num_tasks": 4, "num_samples": 8, "turns_mean": None}
    row |= {"pass_rate": 0.5, "pass_rate_ci95": [0.25, 0.75], "peak_context_p50": 900.4}
    row |= {"tokens_per_solved": 1234.5, "tokens_per_solved_ci95": [1000.0, None]}
    shown = format_row({**row, "peak_context_p95": None})
    assert shown[:4] == ["sft", "", "4", "8"]
    assert shown[4:] == ["0.50 [0.25, 0.75]", "1,234 [1,000, -]", "900/-", "-"]
