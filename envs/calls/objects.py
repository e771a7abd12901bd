"""What a JSON value says as a call: OpenAI's shapes, the names that models give the two fields.

An object names a tool and holds its arguments, directly or inside `function`; `tool_calls` holds
several. Where two fields say different things, none of them is believed.
Tests: tests/envs/calls/test_reader.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from envs.calls.lenient_json import Decoded, decode, skip_space
from envs.calls.malformed import Malformed
from envs.records import JsonValue, Repair

EXPECTED = '{"name": ..., "arguments": {...}}'
_NAMES = ("name", "tool_name", "function_name", "tool", "function", "action")
_ARGUMENTS = (
    *("arguments", "parameters", "args", "input", "action_input"),
    *("argument", "parameter", "params", "kwargs", "tool_input", "tool_args"),
)
_INNER = ("function", "function_call", "tool_call", "tool", "action", "call")
_BESIDE = ("id", "type", "index", "role", "content", "tool_call_id", "call_id", "thought")
_MAX_NAME = 64


@dataclass(frozen=True)
class FoundCall:
    """A call as it was written, or `expected`: what should have been written."""

    name: str
    arguments: Mapping[str, JsonValue]
    repairs: frozenset[Repair] = frozenset()
    expected: str | None = None


def find_calls(value: JsonValue, *, tools: Collection[str], depth: int = 3) -> list[FoundCall]:
    """Return the calls that a decoded value makes; none if it is no call at all."""
    if not isinstance(value, dict) or depth == 0:
        return []
    inner = value.get("tool_calls")
    if isinstance(inner, list):
        return [call for each in inner for call in find_calls(each, tools=tools, depth=depth - 1)]
    for key in _INNER:
        if isinstance(value.get(key), dict):
            beside = {each: value[each] for each in _ARGUMENTS if each in value}
            return find_calls(beside | value[key], tools=tools, depth=depth - 1)
    names = {key: value[key] for key in _NAMES if isinstance(value.get(key), str)}
    if not names:
        return _named_by_key(value, tools)
    if len(set(names.values())) > 1:
        return [FoundCall("", {}, expected=f"one name, not {' and '.join(names)}")]
    key, name = next(iter(names.items()))
    if len(name) > _MAX_NAME:
        return [FoundCall("", {}, expected="the name of a tool")]
    name = name.strip().removeprefix("functions.")
    given = [key for key in _ARGUMENTS if key in value]
    if not given and name not in tools:
        return []
    call = _with_arguments(name, {k: v for k, v in value.items() if k not in names}, given)
    return [call if key == "name" else _by_alias(call)]


def count_nesting(value: JsonValue) -> int:
    """Count how many brackets stand inside each other."""
    parts: list[JsonValue]
    depth, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, dict | list)]:
        depth += 1
        parts = []
        for each in layer:
            parts += each.values() if isinstance(each, dict) else each
        layer = parts
    return depth


def _with_arguments(name: str, rest: dict[str, JsonValue], given: list[str]) -> FoundCall:
    if not given:
        flat = {key: value for key, value in rest.items() if key not in _BESIDE}
        return FoundCall(name, flat, frozenset({"flat_arguments" if flat else "no_arguments"}))
    values = [rest[key] for key in given if rest[key] not in (None, "", {}, [])]
    if len(values) > 1 and any(value != values[0] for value in values):
        return FoundCall(name, {}, expected=f"one of {' and '.join(given)}")
    repairs: set[Repair] = set() if given[0] == "arguments" else {"alias"}
    value = values[0] if values else {}
    if not values and any(rest[key] != {} for key in given):
        repairs.add("no_arguments")
    if isinstance(value, str):
        try:
            decoded = _decoded(value)
            value = {} if decoded.value is None else decoded.value
            repairs |= {"text_arguments", *decoded.repairs}
        except Malformed as error:
            where = f"character {error.at + 1} of the text"
            return FoundCall(name, {}, expected=f"{error.expected}, at {where}")
    if not isinstance(value, dict):
        return FoundCall(name, {}, expected=f"an object in {given[0]}")
    return FoundCall(name, value, frozenset(repairs))


def _decoded(text: str) -> Decoded:
    if not text.strip():
        return Decoded({}, len(text))
    decoded = decode(text, 0)
    if skip_space(text, decoded.end) != len(text):
        raise Malformed(decoded.end, "nothing more")
    return decoded


def _named_by_key(value: dict[str, JsonValue], tools: Collection[str]) -> list[FoundCall]:
    """Read `{"outline": {"path": "a.py"}}`."""
    if len(value) != 1:
        return []
    ((name, arguments),) = value.items()
    if name not in tools or not isinstance(arguments, dict):
        return []
    return [_by_alias(_with_arguments(name, {"arguments": arguments}, ["arguments"]))]


def _by_alias(call: FoundCall) -> FoundCall:
    return replace(call, repairs=call.repairs | {"alias"})
