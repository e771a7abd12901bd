"""Canonical text of plain values by exact type: 1, 1.0, True and an int subclass all differ.

The candidate's process encodes what its functions return; the trusted side only compares texts.
Legitimate encodings look like Python literals (sets and dicts sorted); everything else starts
with `!`, and nothing that starts with `!` ever counts as equal. Standard library only: the
fork-server loads this file without the rest of the house.
Tests: tests/envs/grading/test_graders.py.
"""

import math

MAX_CHARS = 100_000  # longest encoding; the pipe that carries results is bounded too
_MAX_DEPTH = 60


class _UnplainError(Exception):
    """The value holds something without a canonical text."""


def encode_value(value: object) -> str:
    """Return the canonical text of `value`, or `!type NAME` if any part of it is not plain.

    Plain are exactly None, bool, int, float (not nan), str, bytes, list, tuple, dict, set and
    frozenset. A subclass, any other type, recursion and excessive size are not.
    """
    try:
        text = _encode(value, 0)
    except _UnplainError as error:
        return f"!type {error}"
    return text if len(text) <= MAX_CHARS else "!type value too large"


def is_equal(encoded: str, expected: str) -> bool:
    """Tell whether a candidate's encoding is the expected one; `!type ...` equals nothing."""
    return not encoded.startswith("!") and encoded == expected


def _encode(value: object, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise _UnplainError("recursion")
    kind = type(value)
    if value is None or kind in (bool, str, bytes):
        return repr(value)
    if kind is int:
        try:
            return repr(value)
        except ValueError as error:  # more digits than sys.get_int_max_str_digits()
            raise _UnplainError("int too large") from error
    if kind is float:
        assert isinstance(value, float)
        if math.isnan(value):
            raise _UnplainError("nan")
        return repr(value)
    if kind in (list, tuple, set, frozenset, dict):
        return _encode_container(value, depth)
    name = str(kind.__name__)
    raise _UnplainError(name[:40] if name.isidentifier() else "unknown")


def _encode_container(value: object, depth: int) -> str:
    if isinstance(value, dict):
        pairs = ((_encode(key, depth + 1), _encode(item, depth + 1)) for key, item in value.items())
        return "{" + ", ".join(sorted(f"{key}: {item}" for key, item in pairs)) + "}"
    assert isinstance(value, (list, tuple, set, frozenset))
    items = [_encode(item, depth + 1) for item in value]
    if isinstance(value, list):
        return "[" + ", ".join(items) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(items) + ("," if len(items) == 1 else "") + ")"
    inner = "{" + ", ".join(sorted(items)) + "}" if items else "set()"
    return inner if isinstance(value, set) else f"frozenset({inner})"
