"""The report shows in which forms the calls were written."""

import json
import re

from envs.records import ToolCall
from tests.scripts.made_run import byte_tokenizer, make_episode, make_run
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


def shown_calls(folder, *calls):
    """Return what the page says of an episode whose first turn holds these calls."""
    run_dir = make_run(folder / "demo")
    path = run_dir / "evaluate/episodes/grpo.jsonl"
    episode = make_episode(byte_tokenizer(), policy="gold", task=0, sample=0, seed=0)
    turn = episode.turns[0].model_copy(update={"calls": calls})
    episode = episode.model_copy(update={"turns": (turn, *episode.turns[1:])})
    path.write_text(f"{episode.model_dump_json()}\n")
    (run_dir / "evaluate/episodes/sft.jsonl").unlink()
    html = build_report(run_dir, folder / "page.html").read_text()
    return re.findall(r'<p class="tag[^>]*>(.*?)</p>', html)


def test_a_call_that_needed_lenience_is_shown_as_such(tmp_path):
    repaired = ToolCall(name="run_tests", format="fenced", repairs=("no_arguments", "quotes"))
    said = "read with lenience: run_tests (fenced): no arguments, quotes"
    assert shown_calls(tmp_path, repaired) == [said]


def test_names_and_errors_of_calls_are_shown_with_their_control_characters_visible(tmp_path):
    odd = ToolCall(name="a\x1eb\x9f", format="hermes", repairs=("newlines",))
    bad = ToolCall(name="", error="no tool \x1b[31m")
    assert shown_calls(tmp_path, odd, bad) == [
        r"malformed call: no tool \x1b[31m",
        r"read with lenience: a\x1eb\x9f (hermes): newlines",
    ]
