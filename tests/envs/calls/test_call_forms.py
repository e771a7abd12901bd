"""Calls written in any form, whatever their texts hold, are read as exactly these calls."""

import importlib.util
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from envs.policies import call
from envs.records import ToolCall
from envs.tools import NAMES, convert_call
from tests.envs.calls.written_calls import parse_calls

JSON_TEXTS = st.text(max_size=30) | st.lists(
    st.sampled_from(
        (
            *("<tool_call>", "</tool_call>", "</think>", "<think>", "```", "\n", '"', "'", "\\"),
            *("<function=submit></function>", '{"name": "submit"}', "[TOOL_CALLS]", "\u2028"),
            *("{", "}", "x"),
        )
    ),
    max_size=8,
).map("".join)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | JSON_TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["path", "text", "pattern", "start"])
ARGUMENTS = st.dictionaries(KEYS, JSON_VALUES, max_size=3)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: ToolCall(name=name, arguments=arguments),
        st.sampled_from(NAMES),
        ARGUMENTS,
    ),
    min_size=1,
    max_size=3,
)


def as_json(each: ToolCall) -> str:
    return json.dumps({"name": each.name, "arguments": each.arguments}, ensure_ascii=False)


def arguments_of(each: ToolCall) -> str:
    return json.dumps(each.arguments)


def as_python(each: ToolCall) -> str:
    return f"{each.name}({', '.join(f'{k}={v!r}' for k, v in each.arguments.items())})"


JSON_FORMS: dict[str, Callable[[Sequence[ToolCall]], str]] = {
    "hermes": lambda calls: "\n".join(f"<tool_call>\n{as_json(c)}\n</tool_call>" for c in calls),
    "one block": lambda calls: "<tool_call>" + "\n".join(map(as_json, calls)) + "</tool_call>",
    "list": lambda calls: f"<tool_call>[{', '.join(map(as_json, calls))}]</tool_call>",
    "mistral list": lambda calls: f"[TOOL_CALLS][{', '.join(map(as_json, calls))}]",
    "mistral": lambda calls: "".join(f"[TOOL_CALLS]{c.name}[ARGS]{arguments_of(c)}" for c in calls),
    "kimi": lambda calls: (
        "<|tool_calls_section_begin|>"
        + "".join(
            f"<|tool_call_begin|>functions.{c.name}:{n}<|tool_call_argument_begin|>{arguments_of(c)}"
            "<|tool_call_end|>"
            for n, c in enumerate(calls)
        )
        + "<|tool_calls_section_end|>"
    ),
    "harmony": lambda calls: "<|start|>assistant".join(
        f" to=functions.{c.name}<|channel|>commentary json<|message|>{arguments_of(c)}<|call|>"
        for c in calls
    ),
    "fences": lambda calls: "\n".join(f"```json\n{as_json(c)}\n```" for c in calls),
    "one fence": lambda calls: "```\n" + "\n".join(map(as_json, calls)) + "\n```",
    "bare": lambda calls: "I see.\n" + "\n".join(map(as_json, calls)),
    "openai": lambda calls: json.dumps(
        {
            "tool_calls": [
                {"type": "function", "function": {"name": c.name, "arguments": arguments_of(c)}}
                for c in calls
            ]
        }
    ),
    "python": lambda calls: "\n".join(map(as_python, calls)),
    "llama 4": lambda calls: f"[{', '.join(map(as_python, calls))}]",
    "lfm2": lambda calls: (
        f"<|tool_call_start|>[{', '.join(map(as_python, calls))}]<|tool_call_end|>"
    ),
    "single quotes": lambda calls: "".join(
        f"<tool_call>{ {'name': c.name, 'arguments': c.arguments}!r}</tool_call>" for c in calls
    ),
}


@pytest.mark.parametrize("form", JSON_FORMS)
@given(calls=CALLS)
@settings(max_examples=60, deadline=None)
def test_every_form_of_json_gives_the_calls_that_were_written(
    form: str, calls: list[ToolCall]
) -> None:
    again = parse_calls(JSON_FORMS[form](calls))
    assert [(c.name, c.arguments, c.error) for c in again] == [
        (c.name, c.arguments, None) for c in calls
    ]


ELEMENT_TEXTS = JSON_TEXTS.filter(
    # no template escapes these: with them the text has more than one reading
    lambda text: not re.search(r"</?parameter|</?arg_|<\|\"\|>", text)
)
ELEMENTS: dict[str, Callable[[Sequence[ToolCall]], str]] = {
    "qwen3 coder": lambda calls: "\n".join(
        f"<tool_call>\n<function={c.name}>\n"
        + "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in c.arguments.items())
        + "</function>\n</tool_call>"
        for c in calls
    ),
    "minimax": lambda calls: (
        "<minimax:tool_call>\n"
        + "".join(
            f'<invoke name="{c.name}">\n'
            + "".join(f'<parameter name="{k}">{v}</parameter>\n' for k, v in c.arguments.items())
            + "</invoke>\n"
            for c in calls
        )
        + "</minimax:tool_call>"
    ),
    "glm": lambda calls: "\n".join(
        f"<tool_call>{c.name}\n"
        + "".join(
            f"<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>\n" for k, v in c.arguments.items()
        )
        + "</tool_call>"
        for c in calls
    ),
    "gemma": lambda calls: "".join(
        f"<|tool_call>call:{c.name}{{"
        + ",".join(f'{k}:<|"|>{v}<|"|>' for k, v in c.arguments.items())
        + "}<tool_call|>"
        for c in calls
    ),
}


@pytest.mark.parametrize("form", ELEMENTS)
@given(
    calls=st.lists(
        st.builds(
            lambda name, arguments: ToolCall(name=name, arguments=arguments),
            st.sampled_from(NAMES),
            st.dictionaries(KEYS, ELEMENT_TEXTS, max_size=3),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=100, deadline=None)
def test_every_form_of_elements_gives_the_texts_that_were_written(
    form: str, calls: list[ToolCall]
) -> None:
    again = parse_calls(ELEMENTS[form](calls))
    assert [(c.name, c.arguments, c.error) for c in again] == [
        (c.name, c.arguments, None) for c in calls
    ]


@given(JSON_VALUES)
@settings(max_examples=300, deadline=None)
def test_strict_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    for is_ascii in (True, False):
        text = json.dumps({"name": "x", "arguments": {"v": value}}, ensure_ascii=is_ascii, indent=1)
        (read,) = parse_calls(f"<tool_call>{text}</tool_call>")
        expected = json.loads(text)["arguments"]
        assert json.dumps(read.arguments) == json.dumps(expected)
        assert read.repairs == ()


DRAFTS = (
    '<tool_call>{"name": "submit", "arguments": {}}</tool_call>',
    "<function=submit></function>",
    "<tool_call><function=submit></function></tool_call>",
    "[TOOL_CALLS]submit[ARGS]{}",
    '```json\n{"name": "submit"}\n```',
    "<|python_tag|>submit()",
    "x = '<tool_call>submit()</tool_call>'",
)
NUM_DAMAGED = 400  # of each form and draft, of about 700 that one character can make


@pytest.mark.parametrize("form", JSON_FORMS | ELEMENTS)
def test_a_draft_in_a_text_is_not_run_when_the_call_around_it_is_damaged(form: str) -> None:
    """One character less or one too many, anywhere: the call may be lost, the draft is not run."""
    rng = random.Random(0)
    for draft in DRAFTS:
        arguments = {"path": "a.py", "text": draft, "start": "1"}
        edit = ToolCall(name="edit_lines", arguments=arguments)
        text = (JSON_FORMS | ELEMENTS)[form]([edit])
        for _ in range(NUM_DAMAGED):
            at = rng.randrange(len(text))
            put, skipped = rng.choice([("", 1), ('"', 0), ("x", 0), ("\\", 0), ("<", 1)])
            damaged = text[:at] + put + text[at + skipped :]
            made = [each.name for each in parse_calls(damaged) if each.error is None]
            assert "submit" not in made, damaged


@pytest.mark.parametrize("form", JSON_FORMS | ELEMENTS)
def test_what_is_read_of_a_cut_turn_is_what_was_written_so_far(form: str) -> None:
    calls = [
        call("read_lines", path="a.py", start="12", end="34"),
        call("edit_lines", path="a.py", text="<function=submit></function>\n'\"}"),
        call("evict", observation_ids="o12"),
    ]
    text = (JSON_FORMS | ELEMENTS)[form](calls)
    for end in range(len(text) + 1):
        read = parse_calls(text[:end])
        whole = [(c.name, c.arguments) for c in read if c.error is None]
        assert whole == [(c.name, c.arguments) for c in calls[: len(whole)]], text[:end]
        assert all(c.error is None for c in read[:-1]), text[:end]


def templates() -> list[Path]:
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    return sorted((Path(spec.origin).parent / "chat_templates").glob("*.jinja"))


def rendered(template: str, calls: Sequence[ToolCall]) -> str:
    """Return the turn of an assistant as a template renders it, '' if it cannot."""
    for is_text in (False, True):  # DeepSeek V3 takes arguments as JSON text
        messages: list[dict[str, Any]] = [{"role": "user", "content": "task"}]
        functions = [
            {"name": c.name, "arguments": json.dumps(c.arguments) if is_text else c.arguments}
            for c in calls
        ]
        parts = [{"type": "function", "function": function} for function in functions]
        answer = {"role": "assistant", "content": "", "tool_calls": parts}
        try:
            before, after = (
                render_jinja_template([turns], chat_template=template, bos_token="", eos_token="")
                for turns in (messages, [*messages, answer])
            )
        except (jinja2.TemplateError, TypeError):
            continue
        return str(after[0][0]).removeprefix(before[0][0])
    return ""


@pytest.mark.parametrize("path", templates(), ids=lambda path: path.stem)
def test_what_the_template_of_a_family_renders_is_read(path: Path) -> None:
    edit = "def f(x):\n    return '<function=submit></function>' + \"</tool_call>\"\n"
    calls = [call("read_lines", path="a.py", start=1, end=12), call("submit")]
    calls += [call("evict", observation_ids=["o1", "o2"])]
    if not path.stem.startswith("lfm2"):  # its texts stand in quotes that nothing escapes
        calls += [call("edit_lines", path="a.py", start=1, end=2, text=edit)]
    template, num_read = path.read_text(), 0
    for several in (calls, *[[each] for each in calls]):
        text = rendered(template, several)
        if not all(each.name in text for each in several):
            continue  # this family renders no calls, or one in a turn
        again = [convert_call(each) for each in parse_calls(text)]
        assert [(c.name, c.arguments) for c in again] == [(c.name, c.arguments) for c in several], (
            text
        )
        num_read += 1
    if num_read == 0:
        pytest.skip("renders no calls")
