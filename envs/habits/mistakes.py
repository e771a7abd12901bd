"""Mistakes that a scripted demonstrator makes and repairs, as models make them.

All but one are refused by the tool, whose answer says what was expected; `wrong_fix` is an edit
that leaves the bug in, which the tests then show. What a warm start learns of them is the repair:
turns that were mistakes carry no loss (`rewards/mistakes.py`).

Tests: tests/envs/habits/test_mistakes.py.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from envs.records import ToolCall
from envs.syntax import parse_python

Mistake = Literal["missing_argument", "wrong_path", "past_the_end", "broken_edit", "wrong_fix"]
MISTAKES: tuple[Mistake, ...] = get_args(Mistake)
_TOOLS: Mapping[Mistake, tuple[str, ...]] = {
    "missing_argument": ("read_lines",),
    "wrong_path": ("read_lines", "read_file"),
    "past_the_end": ("read_lines",),
    "broken_edit": ("edit_lines",),
    "wrong_fix": ("edit_lines",),
}


def make_mistake(mistake: Mistake, call: ToolCall, *, lines: list[str]) -> ToolCall | None:
    """Return what is called by mistake in place of a right call; None if it cannot happen there.

    Args:
        mistake: Which.
        call: The right one.
        lines: Of its file, as it is.
    """
    if call.name not in _TOOLS[mistake]:
        return None
    given = dict(call.arguments)
    changed = _CHANGES[mistake](given, lines)
    return None if changed is None else call.model_copy(update={"arguments": changed})


def _drop_end(given: dict[str, object], lines: list[str]) -> dict[str, object] | None:
    del lines
    return {name: value for name, value in given.items() if name != "end"}


def _shorten_path(given: dict[str, object], lines: list[str]) -> dict[str, object] | None:
    """Leave out the folder or, where there is none, the ending."""
    del lines
    path = str(given["path"])
    short = path.rpartition("/")[2] if "/" in path else path.rpartition(".")[0]
    return {**given, "path": short} if short not in ("", path) else None


def _move_behind(given: dict[str, object], lines: list[str]) -> dict[str, object] | None:
    start, end = int(str(given["start"])), int(str(given["end"]))
    return {**given, "start": len(lines) + start, "end": len(lines) + end}


def _open_bracket(given: dict[str, object], lines: list[str]) -> dict[str, object] | None:
    text = f"{given['text']} ("
    start, end = int(str(given["start"])), int(str(given["end"]))
    if not str(given["path"]).endswith(".py"):
        return None  # such a file takes any text
    try:
        parse_python("\n".join([*lines[: start - 1], text, *lines[end:]]))
    except SyntaxError:
        return {**given, "text": text}
    return None  # it ends in a comment, say


def _keep_lines(given: dict[str, object], lines: list[str]) -> dict[str, object] | None:
    start, end = int(str(given["start"])), int(str(given["end"]))
    old = "\n".join(lines[start - 1 : end])
    return {**given, "text": old} if old.strip() else None


_CHANGES: Mapping[Mistake, Callable[[dict[str, object], list[str]], dict[str, object] | None]] = {
    "missing_argument": _drop_end,
    "wrong_path": _shorten_path,
    "past_the_end": _move_behind,
    "broken_edit": _open_bracket,
    "wrong_fix": _keep_lines,
}
