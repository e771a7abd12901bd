"""The report shows in which forms the calls were written."""

import json

from envs.records import ToolCall
from tests.scripts.made_run import byte_tokenizer, make_episode, make_run
from tightrope_cli.pages.episodes import unfold
from tightrope_cli.pages.report import build_report


def test_the_page_says_how_calls_were_written_where_it_is_not_the_usual_way(tmp_path):
    run_dir = make_run(tmp_path / "demo")
    html = build_report(run_dir, tmp_path / "page.html").read_text()
    assert "Tool calls of base (temperature 1): hermes 50 %, none 50 %, malformed 50 %." in html
    assert "Tool calls of gold" not in html
    path = run_dir / "evaluate/summary.json"
    summary = json.loads(path.read_text())
    for row in summary["policies"]:
        del row["calls"]  # as an older run wrote it
    path.write_text(json.dumps(summary))
    html = build_report(run_dir, tmp_path / "page.html").read_text()
    assert "Tool calls of" not in html


def test_a_call_that_needed_lenience_is_shown_as_such():
    episode = make_episode(byte_tokenizer(), policy="gold", task=0, sample=0, seed=0)
    mended = ToolCall(name="run_tests", format="fenced", repairs=("no_arguments", "quotes"))
    turn = episode.turns[0].model_copy(update={"calls": (mended,)})
    episode = episode.model_copy(update={"turns": (turn, *episode.turns[1:])})
    (first, *rest) = unfold(episode, decode=None).turns
    assert first.repairs == ("run_tests (fenced): no arguments, quotes",)
    assert not any(turn.repairs for turn in rest)


def test_names_and_errors_of_calls_are_shown_with_their_control_characters_visible():
    episode = make_episode(byte_tokenizer(), policy="gold", task=0, sample=0, seed=0)
    odd = ToolCall(name="a\x1eb\x9f", format="hermes", repairs=("newlines",))
    bad = ToolCall(name="", error="no tool \x1b[31m")
    turn = episode.turns[0].model_copy(update={"calls": (odd, bad)})
    episode = episode.model_copy(update={"turns": (turn, *episode.turns[1:])})
    first = unfold(episode, decode=None).turns[0]
    assert first.repairs == (r"a\x1eb\x9f (hermes): newlines",)
    assert first.errors == (r"no tool \x1b[31m",)
