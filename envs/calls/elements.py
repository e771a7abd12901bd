"""The arguments of a call that are elements: `<parameter=k>v</parameter>` and its relatives.

No template escapes the texts, so the end of one is found by its place: the closing tag that belongs
to no argument opened inside the text, and behind which the next argument or the end of the call
stands. A draft of a whole call inside a text is therefore text. Where opening and closing tags do
not match, more than one reading exists, and none is taken.
Tests: tests/envs/calls/test_call_forms.py.
"""

import re
from dataclasses import dataclass

from envs.calls import marks
from envs.calls.lenient_json import skip_space
from envs.calls.malformed import Malformed


@dataclass(frozen=True)
class Form:
    """How a family writes arguments.

    Attributes:
        argument: Opens one; its group is the name.
        close: Closes one.
        end: Ends the call.
        has_lines: A text stands on lines of its own; one line end on both sides is not its own.
        expected: What to write, for an error.
    """

    argument: re.Pattern[str]
    close: str
    end: re.Pattern[str]
    has_lines: bool
    expected: str


EQUALS = Form(  # Qwen3-Coder, Qwen3.5, Nemotron, Seed-OSS
    marks.FUNCTION_ARGUMENT,
    r"</parameter>",
    re.compile(r"</function>"),
    True,
    "<parameter=name> or </function>",
)
NAMED = Form(  # MiniMax, DeepSeek V3.2, ATEM
    marks.INVOKE_ARGUMENT,
    rf"</{marks.PREFIX}(?:parameter|param|arg)>",
    re.compile(rf"</{marks.PREFIX}(?:invoke|function)>"),
    False,
    '<parameter name="..."> or </invoke>',
)
PAIRS = Form(  # GLM
    marks.PAIR_ARGUMENT,
    r"</(?:longcat_)?arg_value>",
    re.compile(rf"(?={marks.CLOSE.pattern})"),
    False,
    "<arg_key>name</arg_key><arg_value> or </tool_call>",
)


def read_elements(text: str, at: int, form: Form) -> tuple[dict[str, str], int, bool]:
    """Read arguments up to the end of the call.

    Returns:
        The texts by name, the offset behind the end, and whether the end was written.

    Raises:
        Malformed: Something else stands there, or an argument has no end of its own.
    """
    found: dict[str, str] = {}
    tags = re.compile(f"(?P<open>{form.argument.pattern})|(?P<close>{form.close})")
    while True:
        at = skip_space(text, at)
        if end := form.end.match(text, at):
            return found, end.end(), True
        if marks.CLOSE.match(text, at):
            return found, at, False
        opening = form.argument.match(text, at)
        if not opening:
            tag = text.find("<", at)
            is_doubtful = bool(found) or not marks.CLOSE.match(text, max(tag, 0))
            is_cut = at >= len(text)
            raise Malformed(at, form.expected, is_cut=is_cut, is_doubtful=is_doubtful)
        name = opening[1].strip().strip("\"'")
        value, end_at = _text(text, opening, tags, form)
        if found.get(name, value) != value:
            raise Malformed(at, "each name once", is_doubtful=True)
        found[name] = value
        at = end_at


def _text(text: str, opening: re.Match[str], tags: re.Pattern[str], form: Form) -> tuple[str, int]:
    num_open = 0
    for tag in tags.finditer(text, opening.end()):
        if tag["open"]:
            num_open += 1
        elif num_open:
            num_open -= 1
        elif _is_followed(text, tag.end(), form):
            value = text[opening.end() : tag.start()]
            if form.has_lines:
                value = value.removeprefix("\n")
                value = value.removesuffix("\n")
            return value, tag.end()
    raise Malformed(len(text), "the end of an argument", is_cut=True, opened=opening.start())


def _is_followed(text: str, at: int, form: Form) -> bool:
    """Tell whether an argument ends before `at`: the next one, or the end of the call, follows."""
    at = skip_space(text, at)
    return bool(
        at == len(text)
        or form.argument.match(text, at)
        or form.end.match(text, at)
        or marks.CLOSE.match(text, at)
    )
