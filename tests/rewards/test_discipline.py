"""The numbers of discipline by hand, on episodes that were really played."""

import json

import pytest

from envs.policies import call
from rewards.advantages import score_group
from rewards.discipline import discipline_means, measure
from rewards.metrics import step_metrics, summarize
from tests.rewards.episodes import make_episode
from tests.rewards.played import LIMITS, act, edit, read

SUBMIT = call("submit")
SURGICAL = (
    [call("note", file="m0.py", facts="read qax", lines="1-3")],
    [read("m0.py", 1, 3)],
    [read("m1.py", 1, 3)],
    [SUBMIT],
)


def test_a_surgical_episode():
    found = measure(act(*SURGICAL))
    assert (found.read_precision, found.read_recall, found.over_read) == (1, 1, 1)
    assert (found.wasted_read_share, found.planned, found.read_lines_share) == (0, 1, 1)
    assert (found.reread_accidental, found.reread_by_pointer, found.reread_lost) == (0, 0, 0)
    assert (found.compaction_fill, found.compaction_ratio) == (None, None)
    assert found.context_actions == 1


def test_a_wasteful_episode():
    whole = call("read_file", path="m0.py")  # 8 lines, of which 3 are needed
    found = measure(act([whole], [whole], [read("far.py", 1, 4)], [SUBMIT]))
    assert found.read_precision == pytest.approx(3 / 12)
    assert found.read_recall == pytest.approx(3 / 6)
    assert found.over_read == pytest.approx(20 / 6)
    assert found.reread_accidental == pytest.approx(8 / 20)
    assert found.read_lines_share == pytest.approx(1 / 3)
    assert 0.6 < found.wasted_read_share < 0.8
    assert (found.planned, found.context_actions) == (0, 0)


def test_what_was_noted_or_edited_was_not_read_for_nothing():
    wasted = measure(act([read("far.py", 1, 4)], [SUBMIT]))
    noted = call("note", file="far.py", facts="small", lines="1-2")
    half = measure(act([read("far.py", 1, 4)], [noted], [SUBMIT]))
    fixed = [edit("far.py", 3, 4, "X2 = 0\nX3 = 0")]
    none = measure(act([read("far.py", 1, 4)], [noted], fixed, [SUBMIT]))
    found = [each.wasted_read_share for each in (wasted, half, none)]
    assert found == pytest.approx([1, 0.5, 0.5]), "far.py is read-only, so that edit is refused"
    changed = [edit("m0.py", 6, 6, "def lum(a, b):")]
    edited = measure(act([read("m0.py", 5, 6)], changed, [SUBMIT]))
    assert edited.wasted_read_share == pytest.approx(0.5)


def plan(path="m0.py", lines="1-3"):
    return call("note", file=path, facts="read qax", lines=lines)


READ = read("m0.py", 1, 3)


@pytest.mark.parametrize(
    ("turns", "planned"),
    [
        pytest.param([[plan()], [READ]], 1, id="named, then read"),
        pytest.param([[plan(), plan("m1.py")], [read("far.py", 1, 2)], [READ]], 1, id="later"),
        pytest.param([[read("no.py", 1, 3)], [plan()], [READ]], 1, id="nothing was read before"),
        pytest.param([[call("search", pattern="qax")], [READ]], 0, id="no note"),
        pytest.param([[plan(lines="one")], [READ]], 0, id="refused note"),
        pytest.param([[plan("m1.py")], [READ]], 0, id="another file"),
        pytest.param([[plan(lines="6-7")], [READ]], 0, id="other lines"),
        pytest.param([[plan(), READ]], 0, id="in the turn of the first read"),
        pytest.param([[READ], [plan("m1.py")], [read("m1.py", 1, 3)]], 0, id="behind the first"),
        pytest.param([[plan()]], None, id="nothing is read"),
    ],
)
def test_a_plan_is_a_turn_that_names_what_will_be_read_before_the_first_read(turns, planned):
    assert measure(act(*turns, [SUBMIT])).planned == planned


def test_fill_and_ratio_of_a_compaction():
    episode = act([read("far.py", 1, 20)], [call("compact", summary="far.py: constants")], [SUBMIT])
    found, turn, after = measure(episode), episode.turns[1], episode.turns[2]
    assert found.compaction_fill == pytest.approx(turn.sample_end / LIMITS.window_tokens)
    assert found.compaction_ratio == pytest.approx(after.prompt_end / turn.sample_end)
    assert 0 < found.compaction_ratio < 1
    assert found.peak_fill == pytest.approx(turn.prompt_end / LIMITS.window_tokens)


def test_facts_that_a_later_call_names_were_used():
    episode = act(
        [read("m0.py", 1, 7)],
        [call("compact", summary="the bugs: qax adds, lum is fine")],  # qax, lum were shown
        [call("search", pattern="qax")],
        [SUBMIT],
    )
    assert measure(episode).fact_use == pytest.approx(1 / 2)
    assert measure(act([call("compact", summary="nothing")], [SUBMIT])).fact_use is None


def test_means_are_over_episodes_that_have_the_number():
    group = [
        act(*SURGICAL, needs_rewrite=True),
        act([read("m0.py", 1, 6)], [SUBMIT], solves=False),
        act([SUBMIT], needs_rewrite=True, solves=False),
    ]
    found = discipline_means(group)
    assert found["read_precision"] == pytest.approx((1 + 3 / 6) / 2)
    assert found["context_actions"] == pytest.approx(1 / 3)
    assert found["num_needs_rewrite"] == 2
    assert (found["pass_rate_needs_rewrite"], found["pass_rate_elsewhere"]) == (0.5, 0)
    assert found["context_actions_needs_rewrite"] == 0.5
    assert found["compaction_fill"] is None


def test_summary_and_step_metrics_show_them():
    group = [act(*SURGICAL), act([SUBMIT], solves=False)]
    row = summarize(group, name="sft", sampling="greedy")
    assert row["discipline"] == discipline_means(group)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    found = step_metrics([group], [score_group(group)])
    assert found["discipline/read_precision"] == 1
    assert "discipline/compaction_fill" not in found


def test_records_without_gold_spans_have_no_precision():
    found = measure(act(*SURGICAL, gold=()))
    assert (found.read_precision, found.over_read, found.wasted_read_share) == (None, None, None)
    assert found.read_lines_share == 1
    assert measure(make_episode()).peak_fill == pytest.approx(100 / 512)
