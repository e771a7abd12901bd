"""A tool call written as a Python call: `read_lines(path="a.py", start=1, end=3)`.

Arguments are literals; nothing is evaluated. Written so by LFM2 and Llama 4, and by small models
that know Python better than JSON. Tests: tests/envs/calls/test_reader.py.
"""

import re
from collections.abc import Mapping, Sequence

from envs.calls.lenient_json import decode, skip_space
from envs.calls.malformed import Malformed
from envs.calls.marks import SEPARATORS
from envs.calls.objects import FoundCall
from envs.records import JsonValue, Repair

HEAD = re.compile(r"(?:functions\.|tools\.|default_api\.)?([A-Za-z_]\w{0,63})(?:\.call)?\(")
_KEYWORD = re.compile(r"([A-Za-z_]\w{0,63})\s{0,4}=(?!=)")


def read_python_call(
    text: str, head: re.Match[str], *, parameters: Mapping[str, Sequence[str]]
) -> tuple[FoundCall, int]:
    """Read the call that begins with `head`; the number is the offset behind it.

    Args:
        text: What a model wrote.
        head: A match of `HEAD`.
        parameters: Names of arguments by tool, for those that are given by position.

    Raises:
        Malformed: It is no call of literals.
    """
    name, at = head[1], skip_space(text, head.end())
    arguments: dict[str, JsonValue] = {}
    repairs: set[Repair] = set()
    while not text.startswith(")", at):
        start = at
        if keyword := _KEYWORD.match(text, at):
            key, at = keyword[1], keyword.end()
        else:
            places = parameters.get(name, ())
            if len(arguments) >= len(places) or not ("positions" in repairs or not arguments):
                is_cut, is_later = at == len(text), bool(arguments)
                raise Malformed(at, "name=value", is_cut=is_cut, is_doubtful=is_later)
            key = places[len(arguments)]
            repairs.add("positions")
        decoded = decode(text, at, is_python=True)
        if key in arguments:
            raise Malformed(start, "each name once")
        arguments[key] = decoded.value
        repairs |= decoded.repairs
        at = skip_space(text, decoded.end)
        if text.startswith(",", at):
            at = skip_space(text, at + 1)
        elif not text.startswith(")", at):
            raise Malformed(at, "',' or ')'", is_cut=at == len(text), is_doubtful=True)
    return FoundCall(name, arguments, frozenset(repairs)), at + 1


def read_python_calls(
    text: str, at: int, *, parameters: Mapping[str, Sequence[str]]
) -> tuple[list[FoundCall], int, Malformed | None]:
    """Read calls one after another, as a list or not, up to something else or a broken one.

    Returns:
        The calls, the offset behind them, and what is wrong with the one that stands there.
    """
    calls: list[FoundCall] = []
    has_bracket = text.startswith("[", at)
    end = at = skip_space(text, at + has_bracket)
    while (head := HEAD.match(text, at)) and head[1] in parameters:
        try:
            call, end = read_python_call(text, head, parameters=parameters)
        except Malformed as error:
            return calls, at, error
        calls.append(call)
        separators = SEPARATORS.match(text, end)
        at = separators.end() if separators else end
    if not has_bracket:
        return calls, end, None
    return calls, at + text.startswith("]", at), None
