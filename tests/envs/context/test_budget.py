"""A budget says by kind what a view holds; that it adds up for any episode is in test_laws.py."""

import json
from typing import get_args

import pytest

from envs.context.budget import measure_budget
from envs.context.event_log import render_view
from envs.environment import EpisodeMetadata, Limits
from envs.errors import UserError
from envs.policies import call
from envs.prompts import system_prompt
from envs.records import Episode, PrefixKind, StopReason, Thresholds
from envs.rendering import ChatFormat
from envs.tools import Toolbox
from tests.envs.world import CHAT, ROOT, TOKENIZER, new_environment, sample_of, sample_text

WIDE = Limits(window_tokens=600, max_turns=30, max_new_tokens=48, observation_tokens=160)
METADATA = EpisodeMetadata("g", 0, 0, "x", 0, 0.0, False)


def played() -> Episode:
    environment = new_environment(limits=WIDE)
    note = call("note", file="m1.py", facts="zor is wrong", lines="3")
    for calls in (
        [call("read_file", path="m0.py"), note],
        [call("evict", observation_ids=["o1"]), call("read_file", path="m1.py")],
        [call("list_files")],
        [call("compact", summary="m0 is fixed")],
        [call("list_files")],
    ):
        environment.step(sample_of(calls))
    environment.stop_reason = StopReason.TURN_LIMIT
    return environment.record(METADATA, outcome=None)


def test_a_budget_follows_notes_stubs_and_summaries() -> None:
    episode = played()
    first, second, third, fourth, fifth = (measure_budget(episode, turn=n) for n in range(1, 6))
    assert first.observations == {} and first.assistant == 0 and first.notes == 0
    assert second.observations.keys() == {"o1", "o2"} and second.assistant > 0
    assert third.observations["o1"] < second.observations["o1"], "a stub"
    assert third.notes > 0 and third.summaries == 0 and third.task == first.task
    assert fourth.observations.keys() == {"o1", "o2", "o3", "o4", "o5"}
    assert fifth.observations == {} and fifth.summaries > 0 and fifth.notes == third.notes
    text = CHAT.encode("\nnote m1.py:3-3 zor is wrong")
    assert abs(third.notes - len(text)) <= 1
    for each in (first, second, third, fourth, fifth):
        assert each.fits and each.output_reserve == 48 and each.held + each.free == 600 - 48
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


@pytest.mark.parametrize(
    ("template", "tools"),
    [("tiny", "none"), ("tiny", "brief"), ("chatml", "brief"), ("chatml", "full")],
)
def test_tools_and_system_are_told_apart_in_every_form(template: str, tools: str) -> None:
    schemas = [getattr(Toolbox, name) for name in ("read_lines", "submit")]
    chat = ChatFormat(
        TOKENIZER,
        template=(ROOT / "train" / "models" / "templates" / f"{template}.jinja").read_text(),
        tools=schemas if tools == "full" else (),
    )
    environment = new_environment(limits=Limits(9000, 3, 48, 160), chat=chat, tools=tools)
    (opened,) = environment.events
    found = opened.prefix_tokens  # type: ignore[union-attr]
    assert sum(found.values()) == len(environment.view().prompt_ids)
    assert ("tools" in found) == (tools != "none") and min(found.values()) > 0
    bare = len(chat.encode(system_prompt(tools, example="e").partition("\nTools:")[0]))
    assert abs(found["system"] - bare) < 0.2 * bare + 12


def test_a_request_for_a_summary_is_an_observation() -> None:
    environment = new_environment(
        limits=WIDE, strategy="summarize", thresholds=Thresholds(fill=0.2)
    )
    environment.step(sample_of([call("read_file", path="m0.py")]))
    assert environment.view().asks_summary
    environment.step(sample_text("read m0"))
    environment.stop_reason = StopReason.TURN_LIMIT
    budget = measure_budget(environment.record(METADATA, outcome=None), turn=2)
    assert budget.observations.keys() == {"o1", "o2"}


def test_records_of_older_versions_have_a_budget_too() -> None:
    data = json.loads(played().model_dump_json())
    for event in data["events"]:
        event.pop("prefix_tokens", None)
    for name in ("output_reserve", "thresholds"):
        data.pop(name)
    old = Episode.model_validate(data)
    budget = measure_budget(old, turn=3)
    assert budget.unsplit > 0 and budget.task == 0 and budget.output_reserve == 0
    starts = [n for n, event in enumerate(old.events) if event.kind == "sampled"]
    assert budget.held == len(render_view(old.events[: starts[2]]).prompt_ids)
    assert set(get_args(PrefixKind)) <= type(budget).model_fields.keys()


@pytest.mark.parametrize("turn", [0, 6, -1])
def test_a_turn_that_is_not_there_is_refused(turn: int) -> None:
    with pytest.raises(UserError, match="no such turn"):
        measure_budget(played(), turn=turn)
