"""Calls are read as models write them; a draft is never run; an error names its place."""

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.policies import call
from envs.records import ToolCall
from tests.envs.calls.family_calls import FAMILIES
from tests.envs.calls.unreadable_calls import ERRORS, QUOTES, SILENT
from tests.envs.calls.written_calls import SUBMIT_TEXT, WRITTEN, Call, hermes, parse_calls
from tests.envs.world import CHAT, TOKENIZER

READ = WRITTEN | FAMILIES
MOST_TOKENS = 80  # of an error, in the smallest vocabulary that the demo could have
NUM_MUTATED = 12_000


def found(text: str) -> list[Call]:
    calls = parse_calls(text)
    assert [each.error for each in calls] == [None] * len(calls)
    return [(each.name, each.arguments, each.format, each.repairs) for each in calls]


def num_tokens(text: str) -> int:
    return len(TOKENIZER.encode(f"error: {text}", add_special_tokens=False).ids)


def test_the_corpus_is_large() -> None:
    assert len(READ) >= 80


@pytest.mark.parametrize(("text", "expected"), READ.values(), ids=READ.keys())
def test_a_written_form_is_read(text: str, expected: list[Call]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT.keys())
def test_prose_drafts_and_mentions_are_no_calls(text: str) -> None:
    assert parse_calls(text) == ()


@pytest.mark.parametrize("text", QUOTES.values(), ids=QUOTES.keys())
def test_nothing_is_run_behind_a_text_whose_end_is_in_doubt(text: str) -> None:
    assert [each.name for each in parse_calls(text) if each.error is None] == []


CLOSED_INSIDE = {
    "equals": (
        "<tool_call><function=note><parameter=facts>",
        "</parameter></function></tool_call>",
    ),
    "named": (
        '<function_calls><invoke name="note"><parameter name="facts">',
        "</parameter></invoke></function_calls>",
    ),
    "pairs": ("<tool_call>note<arg_key>facts</arg_key><arg_value>", "</arg_value></tool_call>"),
}


@pytest.mark.parametrize(("start", "end"), CLOSED_INSIDE.values(), ids=CLOSED_INSIDE)
def test_no_half_of_a_text_that_holds_the_end_of_its_own_call_is_taken(start: str, end: str):
    found = parse_calls(f"{hermes(SUBMIT_TEXT)}\n{start}ends with {end}, then more{end}")
    assert found[0].name == "submit" and all(each.error for each in found[1:])
    (whole,) = parse_calls(f"{start}ends well{end}")
    assert whole.arguments == {"facts": "ends well"} and whole.error is None


def test_calls_behind_an_unreadable_one_are_read_where_no_text_is_in_doubt() -> None:
    calls = parse_calls(
        "<tool_call>{name: outline}</tool_call><tool_call>{bad}</tool_call>"
        '<tool_call>{"name": "submit"}</tool_call><tool_call>{"name": "read'
    )
    assert [(each.name, each.error is None) for each in calls] == [
        *((("", False),) * 2),
        ("submit", True),
        ("", False),
    ]


@pytest.mark.parametrize(("text", "error"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_names_place_and_expectation(text: str, error: str) -> None:
    (bad,) = parse_calls(text)
    assert bad.error is not None
    assert re.search(error, bad.error), bad.error
    assert num_tokens(bad.error) < MOST_TOKENS, bad.error


def test_a_scripted_turn_is_read_as_it_was_written() -> None:
    calls = [
        call("edit_lines", path="m0.py", start=3, end=3, text='    return "\\n" + x\n'),
        call("evict", observation_ids=["o1", "o2"]),
        call("run_tests", selector=""),
        call("submit"),
    ]
    ids = CHAT.call_ids(calls)
    assert ids[-1] == CHAT.eot_id
    assert parse_calls(CHAT.decode(ids[:-1])) == tuple(calls)


def test_records_of_before_still_load() -> None:
    old = '{"name": "submit", "arguments": {}, "format": "bare", "error": null}'
    assert ToolCall.model_validate_json(old) == ToolCall(name="submit", format="bare")


# Nothing that a model writes breaks the reader.

PIECES = (
    *("<tool_call>", "</tool_call>", "<function=submit>", "</function>", "<parameter=path>"),
    *("</parameter>", "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "```"),
    *("```json\n", "<arg_key>", "</arg_value>", "<|channel|>analysis", "<|message|>", "call:x{"),
    *('<|"|>', '"', "'", '\\"', "\\", "{", "}", "[", "]", ",", ":", "(", ")", "\n", "\\ud800"),
    *(
        "\ud800",
        "\udfff",
        "\x00",
        "\u2028",
        "NaN",
        "1e999",
        "None",
        "\U0001f600",
        "[" * 30,
        "{" * 30,
    ),
)


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 4)):
        at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        match rng.randrange(7):
            case 0:
                text = text[:at] + text[min(at + rng.randint(1, 3), len(text)) :]
            case 1:
                text = text[:to] + text[at:to] + text[to:]
            case 2 if to < len(text) and at < to:
                text = text[:at] + text[to] + text[at + 1 : to] + text[at] + text[to + 1 :]
            case 3:
                text = text[:to]
            case 4:
                text = text[:at] + text + text[at:]
            case _:
                text = text[:at] + rng.choice(PIECES) + text[at:]
    return text[:4000]


def test_mutated_calls_are_data() -> None:
    """None raises; all survive a file; errors stay short; what is read fits the schema."""
    rng = random.Random(0)
    corpus = [text for text, _ in (*READ.values(), *ERRORS.values()) if len(text) < 600]
    corpus += SILENT.values()
    num_read = num_errors = 0
    for _ in range(NUM_MUTATED):
        text = mutated(rng.choice(corpus), rng)
        for each in parse_calls(text):
            assert ToolCall.model_validate_json(each.model_dump_json()) == each, text
            num_read += each.error is None
            if each.error is not None:
                num_errors += 1
                assert num_tokens(each.error) < MOST_TOKENS, each.error
    assert num_read > NUM_MUTATED / 4 and num_errors > NUM_MUTATED / 10


@given(st.text(max_size=60) | st.text(alphabet='<tool_call>/{}"name:=funcio ', max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert isinstance(parse_calls(text), tuple)


HOSTILE = (
    *(
        "<tool_call>",
        "{",
        "[",
        '"',
        "'",
        "<think>",
        "</think>",
        "`",
        "```",
        "\\",
        '{"',
        "{'",
        "{a:",
    ),
    *('{"a":', '[{"a":', '{"name":', '{"tool_calls":[', "<tool_call>{", '<tool_call>"', "~~~{"),
    *(
        "<function=a>",
        "<function=a><parameter=b>",
        "<parameter=b></parameter>",
        "to=a",
        "</think>x(",
    ),
    *(
        '<invoke name="',
        "<arg_key>a</arg_key><arg_value>",
        "[TOOL_CALLS]a",
        "submit(",
        "submit(a=[",
    ),
    *('"\\"', "<tool_call>x", "<tool_call>x</tool_call>", "\n<tool_call>\n", "<|channel|>analysis"),
    *(
        "`<tool_call>`",
        "<tool_call>submit(",
        '{"a":"\\"',
        "```\n{",
        '<tool_call>{"a":"</tool_call>',
    ),
    *("functools", " to=x<|message|>", '<|"|>', 'call:a{b:<|"|>', "<function=submit></function>"),
)


def seconds(text: str) -> float:
    start = time.process_time()
    parse_calls(text)
    return time.process_time() - start


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_text(piece: str) -> None:
    """Eight times the text takes at most thrice eight times as long; a square would take 64."""
    few, many = 25_000 // len(piece), 200_000 // len(piece)
    for prefix in ("", "<tool_call>"):
        for is_last in (False, False, True):  # a busy neighbour may slow one measurement
            short = max(seconds(prefix + piece * few), 2e-3)
            if (long := seconds(prefix + piece * many)) < 24 * short:
                break
            assert not is_last, (short, long)
