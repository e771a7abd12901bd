"""The report page: whole, self-contained, honest about what is missing, and safe with any text."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from envs.errors import UserError
from rewards.cost import billed_tokens, num_segments
from tests.scripts.made_run import byte_tokenizer, make_episode, make_run
from tightrope_cli.pages.episodes import (
    MAX_CHARACTERS,
    best_and_worst,
    capped,
    most_shortened,
    unfold,
)
from tightrope_cli.pages.report import build_report, page_context
from tightrope_cli.report import main
from train.stages.exit_codes import run_main

CURVES = {
    "pass_rate",
    "tokens_per_solved",
    "peak_context",
    "segments_per_episode",
    "discipline_context_actions_needs_rewrite",
    "discipline_context_actions_elsewhere",
    "entropy",
    "share_groups_without_signal",
}
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """Checks nesting, and collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture
def run_dir(whole_run, tmp_path):
    return Path(shutil.copytree(whole_run, tmp_path / "demo"))


def build(run_dir):
    return build_report(run_dir, run_dir / "report/index.html").read_text(encoding="utf-8")


def written(run_dir, figures):
    build_report(run_dir, run_dir / "report/index.html", figures=figures)
    return sorted(figures.glob("*"))


def test_the_page_is_whole_and_loads_nothing(run_dir):
    html = build(run_dir)
    page = Page(html)
    assert "Not run yet" not in page.text
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not {"src", "href"} & {name for name, value in page.attributes if value[:1] != "#"}
    assert "http" not in html
    assert "url(" not in html
    assert len(html) < 200_000
    for word in ("Pass rate against tokens", "Most shortened", "Best", "Worst", "Entropy"):
        assert word in page.text
    # one figure per curve, the trade-off, and one strip per episode
    assert page.tags.count("svg") >= 1 + 6 + 1 + 3


def test_every_figure_says_in_words_what_it_shows(run_dir):
    html = build(run_dir)
    assert html.count("<svg") == html.count('role="img" aria-label="') - html.count(
        '<span class="gauge" role="img"'
    ) - html.count('<span class="bar" role="img"')
    assert "base: 0 % solved, none solved" in html


def test_the_table_holds_the_numbers_of_the_summary(run_dir):
    summary = json.loads((run_dir / "evaluate/summary.json").read_text())
    text = Page(build(run_dir)).text
    for row in summary["policies"]:
        assert row["name"] in text
        low, high = row["pass_rate_ci95"]
        assert f"{100 * row['pass_rate']:.0f} %" in text
        assert f"{100 * low:.0f} % to {100 * high:.0f} %" in text
        if row["tokens_per_solved"]:
            assert f"{row['tokens_per_solved']:,.0f}" in text


def test_the_table_of_discipline_holds_the_numbers_of_the_summary(run_dir):
    path = run_dir / "evaluate/summary.json"
    summary = json.loads(path.read_text())
    for row in summary["policies"]:
        row["discipline"] |= {"read_precision": 0.123, "over_read": 22.0, "compaction_fill": None}
    path.write_text(json.dumps(summary))
    text = Page(build(run_dir)).text
    assert "Read precision" in text and "12 %" in text and "22.00" in text
    for row in summary["policies"]:
        del row["discipline"]
    path.write_text(json.dumps(summary))
    assert "of an older version: it says nothing of discipline" in Page(build(run_dir)).text


def test_texts_of_episodes_are_decoded_and_escaped(run_dir):
    html = build(run_dir)
    assert "<b>total" not in html
    assert "&lt;b&gt;total" in html
    assert "&lt;tool_call&gt;" in html
    assert "compacted to: hyd.py:2 adds; should subtract" in html


def test_without_a_tokenizer_the_calls_are_shown(run_dir):
    shutil.rmtree(run_dir / "sft/tokenizer")
    html = build(run_dir)
    assert "No tokenizer was found" in html
    assert "&lt;tool_call&gt;" not in html
    assert "edit_lines" in html


def test_a_decoder_can_be_given(run_dir):
    out = run_dir / "page.html"
    build_report(run_dir, out, decode=lambda ids: f"said {len(ids)} tokens")
    assert "said 60 tokens" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "missing",
    [("sft",), ("grpo",), ("evaluate",), ("sft", "grpo"), ("sft", "grpo", "evaluate")],
    ids="-".join,
)
def test_stages_that_did_not_run_are_named(run_dir, missing):
    for stage in missing:
        shutil.rmtree(run_dir / stage)
    page = Page(build(run_dir))
    assert page.text.count("Not run yet") >= len(missing)


@pytest.mark.parametrize(
    ("path", "gaps"),
    [
        ("evaluate/summary.json", ["the plot", "the table", "discipline", "stop reasons"]),
        ("evaluate/episodes", []),
        ("grpo/metrics.jsonl", ["the curves"]),
        ("grpo/episodes", []),
    ],
    ids=["summary", "evaluated", "metrics", "played"],
)
def test_any_missing_file_still_gives_a_page_that_names_the_gap(run_dir, path, gaps):
    victim = run_dir / path
    if victim.is_dir():
        shutil.rmtree(victim)
    else:
        victim.unlink()
    named = re.findall(r"Not run yet\. .*? fills this in with (.*?)\.", Page(build(run_dir)).text)
    assert named == gaps


def test_before_evaluation_training_episodes_are_shown(run_dir):
    shutil.rmtree(run_dir / "evaluate")
    assert "training step 5" in build(run_dir)


def test_a_line_that_is_still_being_written_is_left_out(run_dir):
    before = build(run_dir)
    with (run_dir / "grpo/metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "pass_r')
    assert build(run_dir) == before


def test_same_files_same_page(run_dir):
    assert build(run_dir) == build(run_dir)


def test_nothing_solved_and_open_intervals_are_shown_as_such(run_dir):
    path = run_dir / "evaluate/summary.json"
    summary = json.loads(path.read_text())
    for row in summary["policies"]:
        solved = row["name"] == "sft"
        row |= {"pass_rate": 0.01 * solved, "pass_rate_ci95": [0.0, 0.03]}
        row |= {"tokens_per_solved": 9000.0 if solved else None}
        row["tokens_per_solved_ci95"] = [4000.0, None] if solved else [None, None]
    path.write_text(json.dumps(summary))
    text = Page(build(run_dir)).text
    assert "from 4,000, open above" in text
    assert "\u2013" in text


def test_the_comparison_of_the_summary_goes_first(run_dir):
    path = run_dir / "evaluate/summary.json"
    summary = json.loads(path.read_text())
    summary["comparisons"] = [
        {
            "first": "sft",
            "second": "grpo",
            "num_tasks": 77,
            "pass_rate_difference": 0.123,
            "pass_rate_difference_ci95": [0.1, 0.2],
            "tokens_per_solved_ratio": None,
            "tokens_per_solved_ratio_ci95": [None, None],
        }
    ]
    path.write_text(json.dumps(summary))
    text = Page(build(run_dir)).text
    assert "On the 77 tasks" in text
    assert "+12.3 points" in text


def test_bars_of_stop_reasons_are_whole_and_split_submitted(run_dir):
    context = page_context(run_dir, decode=None)
    summary = json.loads((run_dir / "evaluate/summary.json").read_text())
    for bar, row in zip(context["bars"], summary["policies"], strict=True):
        assert sum(part["percent"] for part in bar["parts"]) == pytest.approx(100)
        counts = {part["reason"]: part["count"] for part in bar["parts"]}
        submitted = row["stop_reasons"].get("submitted", 0)
        assert counts.get("solved", 0) + counts.get("submitted", 0) == submitted
        assert counts.get("solved", 0) == round(row["pass_rate"] * row["num_samples"])


def test_episodes_of_another_version_are_the_users_error(tmp_path):
    path = tmp_path / "evaluate/episodes/sft.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 99}\n')
    with pytest.raises(UserError, match="evaluate"):
        page_context(tmp_path, decode=None)


def test_the_command_writes_the_page_and_replaces_it(run_dir, capsys):
    config = run_dir.parent / "run.yaml"
    config.write_text(f"run: {{name: demo, dir: {run_dir.parent}}}\nmodel: {{base: tiny}}\n")
    for _ in range(2):
        assert run_main(main, ["--config", str(config)]) == 0
        assert capsys.readouterr().out.strip() == str(run_dir / "report/index.html")
    assert (run_dir / "report/done").is_file()
    assert len(list((run_dir / "report/figures").iterdir())) == 2 * (len(CURVES) + 2)


def test_charts_are_files_too_and_the_same_for_the_same_run(run_dir, tmp_path):
    first = written(run_dir, tmp_path / "first")
    again = written(run_dir, tmp_path / "again")
    names = {path.stem for path in first}
    assert names == {"tradeoff", "warm_start_loss", *CURVES}
    for path, other in zip(first, again, strict=True):
        assert path.read_bytes() == other.read_bytes(), path.name
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 800 and len(image.convert("RGB").getcolors(2**24)) > 10
        else:
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_charts_without_numbers_are_left_out(run_dir, tmp_path):
    shutil.rmtree(run_dir / "evaluate")
    (run_dir / "grpo/metrics.jsonl").unlink()
    files = written(run_dir, tmp_path / "figures")
    assert {path.stem for path in files} == {"warm_start_loss"}


def test_a_policy_that_solved_nothing_and_an_open_interval_can_be_drawn(run_dir, tmp_path):
    path = run_dir / "evaluate/summary.json"
    summary = json.loads(path.read_text())
    for row in summary["policies"]:
        row["tokens_per_solved"] = 9000.0 if row["name"] == "sft" else None
        row["tokens_per_solved_ci95"] = [4000.0, None] if row["name"] == "sft" else None
    path.write_text(json.dumps(summary))
    assert tmp_path / "figures/tradeoff.svg" in written(run_dir, tmp_path / "figures")


def test_the_command_names_the_remedy_for_a_missing_run(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text(f"run: {{name: other, dir: {tmp_path}}}\nmodel: {{base: tiny}}\n")
    assert run_main(main, ["--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert f"accelerate launch train/sft.py --config {config}" in error


def test_most_shortened_wants_tasks_that_both_solved():
    tokenizer = byte_tokenizer()
    before = [
        make_episode(tokenizer, policy="sft", task=t, sample=s, seed=0)
        for t in range(20)
        for s in range(2)
    ]
    after = [
        make_episode(tokenizer, policy="grpo", task=t, sample=s, seed=0)
        for t in range(20)
        for s in range(2)
    ]
    pairs = most_shortened(before, after, count=3, decode=None)
    assert len(pairs) == 3
    drops = {
        first.task_id: billed_tokens(first) - billed_tokens(second)
        for first in reversed(before)
        for second in reversed(after)
        if first.task_id == second.task_id and _is_solved(first) and _is_solved(second)
    }
    assert len(set(drops.values())) > 3
    expected = sorted(drops.values(), reverse=True)[:3]
    assert [pair.saved_tokens for pair in pairs] == expected
    for pair in pairs:
        first, second = pair.before.record, pair.after.record
        assert _is_solved(first) and _is_solved(second)
        assert pair.saved_tokens == billed_tokens(first) - billed_tokens(second) > 0


def test_best_are_cheap_and_worst_are_dear():
    tokenizer = byte_tokenizer()
    episodes = [
        make_episode(tokenizer, policy="sft", task=t, sample=s, seed=0)
        for t in range(20)
        for s in range(2)
    ]
    views = best_and_worst(episodes, count=3, decode=None)
    best, worst = ([view.record for view in some] for some in views)
    assert all(map(_is_solved, best))
    assert not any(map(_is_solved, worst))
    assert billed_tokens(best[0]) == min(billed_tokens(e) for e in episodes if _is_solved(e))
    assert billed_tokens(worst[0]) == max(billed_tokens(e) for e in episodes if not _is_solved(e))
    assert any(num_segments(episode) > 1 for episode in best)
    assert len({episode.task_id for episode in best}) == 3


def _is_solved(episode):
    return episode.outcome is not None and episode.outcome.fail_to_pass_rate == 1


def test_unfolded_turns_hold_what_the_record_holds():
    tokenizer = byte_tokenizer()
    episode = next(
        made
        for task in range(99)
        if len((made := make_episode(tokenizer, policy="sft", task=task, sample=0, seed=0)).turns)
        > 4
    )
    view = unfold(episode, decode=lambda ids: tokenizer.decode(list(ids)))
    held = [turn.cached + turn.new for turn in view.turns]
    assert held == [turn.prompt_end for turn in episode.turns]
    assert list(view.turns[1].events[-1].stub_ids) == ["o1"]
    assert view.turns[2].rewritten
    assert view.turns[2].segment == 2
    assert '"read_file"' in view.turns[0].text
    assert view.prompt.startswith("Repair the code.")
    for turn in view.turns:
        assert turn.cached + turn.new + turn.sampled <= view.top_tokens


def test_long_texts_are_cut_and_say_so(run_dir):
    assert capped("x" * 5000) == "x" * MAX_CHARACTERS + "\n[3,500 more characters]"
    out = build_report(run_dir, run_dir / "page.html", decode=lambda _: "x" * 5000)
    assert "x" * (MAX_CHARACTERS + 1) not in out.read_text(encoding="utf-8")


def test_an_episode_without_turns_can_be_shown():
    tokenizer = byte_tokenizer()
    episode = make_episode(tokenizer, policy="gold", task=0, sample=0, seed=0)
    empty = episode.model_copy(
        update={"turns": (), "events": episode.events[:1], "segment_ids": ()}
    )
    assert unfold(empty, decode=None).turns == ()
