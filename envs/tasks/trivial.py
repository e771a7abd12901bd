"""Marks tasks that ask for nothing but reading: the statement names the line and says the repair.

A task is trivial if of each place that gold changes
- the statement's innermost frame is a line that has to be changed, or in one statement with it,
- one token of it is wrong, too much or missing, or all are there in another order, and
- what is said there is that token, as it should be, or an error of a kind that comes from a wrong
  name or a missing value.

Not covered: an expected value from which an attentive reader knows the place.
"""

import ast
import difflib
import re
from collections.abc import Mapping, Sequence

from envs.records import Edit
from envs.source_text import source_lines
from envs.syntax import last_line, parse_python

_FRAME = re.compile(r"^(?P<path>[^\s:]+\.py):(?P<line>\d+): (?P<said>.*)$", re.MULTILINE)
_TOKEN = re.compile(r"\w+|[<>=!*/+-]+|[^\w\s]")
_TELLING = re.compile(r"\b(NameError|UnboundLocalError|AttributeError|TypeError)\b")


def is_trivial(statement: str, *, edits: Sequence[Edit], workspace: Mapping[str, str]) -> bool:
    """Tell whether a task is trivial, as is said above.

    Args:
        edits: The repair.
        workspace: What it is of.
    """
    frames = [
        (frame["path"], int(frame["line"]), frame["said"]) for frame in _FRAME.finditer(statement)
    ]
    return bool(edits) and all(
        any(
            path == edit.path
            and _is_told(said, old=_lines(workspace[path], edit), new=edit.text)
            and _is_named(line, edit, text=workspace[path])
            for path, line, said in frames
        )
        for edit in edits
    )


def _lines(text: str, edit: Edit) -> str:
    return "\n".join(source_lines(text)[edit.start - 1 : edit.end])


def _is_named(line: int, edit: Edit, *, text: str) -> bool:
    """Tell whether a line is one that has to be changed, or of the same simple statement."""
    if edit.start <= line <= edit.end:
        return True
    return any(
        node.lineno <= min(line, edit.start) and max(line, edit.end) <= last_line(node)
        for node in ast.walk(parse_python(text))
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
    )


def _is_told(said: str, *, old: str, new: str) -> bool:
    """Tell whether two texts differ in one token, which is told, or in the order."""
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    if sorted(before) == sorted(after):
        return bool(_TELLING.search(said))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    changes = [change for change in matcher.get_opcodes() if change[0] != "equal"]
    if len(changes) != 1:
        return False
    _, first, last, start, end = changes[0]
    if last - first > 1 or end - start > 1:
        return False
    return bool(_TELLING.search(said)) or bool(set(after[start:end]) & set(_TOKEN.findall(said)))
