"""From a broken tree to the gold one: as line edits in the broken numbering, and as a diff.

Also the way back from somebody else's unified diff to a tree (`apply_patch`).
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from envs.records import Edit

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_NO_END = "\\ No newline at end of file"


def gold_edits(broken: Mapping[str, str], gold: Mapping[str, str]) -> tuple[Edit, ...]:
    """Return the fewest line replacements that mend `broken`.

    Those of one file come from the bottom up, so that each is right after the ones before it.
    """
    return tuple(
        edit
        for path in broken
        if broken[path] != gold[path]
        for edit in _file_edits(path, broken[path].splitlines(), gold[path].splitlines())
    )


def apply_edits(files: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    """Return `files` after `edits`, each in the numbering that the one before it left."""
    mended = dict(files)
    for edit in edits:
        lines = mended[edit.path].splitlines()
        lines[edit.start - 1 : edit.end] = edit.text.splitlines()
        mended[edit.path] = "\n".join(lines) + "\n"
    return mended


def gold_patch(broken: Mapping[str, str], gold: Mapping[str, str]) -> str:
    """Return the unified diff that mends `broken`."""
    return "".join(
        line
        for path in broken
        if broken[path] != gold[path]
        for line in difflib.unified_diff(
            broken[path].splitlines(keepends=True),
            gold[path].splitlines(keepends=True),
            fromfile=f"a/{path}",
            tofile=f"b/{path}",
        )
    )


def apply_patch(files: Mapping[str, str], diff: str) -> dict[str, str]:
    """Return the files that a unified diff changes, as it leaves them.

    Every hunk must fit where it says, letter for letter: a diff that fits elsewhere was made for
    another tree.

    Raises:
        ValueError: It does not fit, adds or removes or renames a file, or is no diff.
    """
    changed: dict[str, list[str]] = {}
    lines = diff.replace("\r\n", "\n").split("\n")
    at, path, shift = 0, "", 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(("new file", "deleted file", "rename ", "Binary files", "GIT binary")):
            raise ValueError("adds, removes or renames a file")
        if line.startswith("--- ") and "".join(lines[at + 1 : at + 2])[:4] == "+++ ":
            old, new = (_patched_path(each) for each in lines[at : at + 2])
            if old != new:
                raise ValueError("adds, removes or renames a file")
            if new not in files:
                raise ValueError(f"changes {new}, which is not there")
            path, shift, at = new, 0, at + 2
            changed[path] = files[path].split("\n")
        elif (hunk := _HUNK.match(line)) and path:
            removed, added, at = _hunk(lines, at + 1, hunk)
            start = int(hunk[1]) + shift - (1 if removed else 0)
            if start < 0 or changed[path][start : start + len(removed)] != removed:
                raise ValueError(f"does not fit {path} at line {hunk[1]}")
            changed[path][start : start + len(removed)] = added
            shift += len(added) - len(removed)
        else:
            at += 1
    if not changed:
        raise ValueError("is no unified diff")
    return {path: "\n".join(text) for path, text in changed.items()}


def _patched_path(line: str) -> str:
    """Return the path of '--- a/pkg/x.py<tab>date'."""
    path = line[4:].partition("\t")[0].strip()
    return path[2:] if path.startswith(("a/", "b/")) else path


def _hunk(lines: list[str], at: int, head: re.Match[str]) -> tuple[list[str], list[str], int]:
    """Return the lines that a hunk replaces, those that it puts there, and where it ends."""
    left, right = (int(count) if count is not None else 1 for count in head.group(2, 3))
    removed: list[str] = []
    added: list[str] = []
    while len(removed) < left or len(added) < right or lines[at : at + 1] == [_NO_END]:
        if at == len(lines):
            raise ValueError("ends within a hunk")
        kind, text = lines[at][:1] or " ", lines[at][1:]
        if kind in " -":
            removed.append(text)
        if kind in " +":
            added.append(text)
        if kind not in " -+\\":
            raise ValueError("has a malformed hunk")
        at += 1
    return removed, added, at


def _file_edits(path: str, wrong: list[str], right: list[str]) -> list[Edit]:
    if len(wrong) == len(right):  # one mutation replaces lines one for one: exact, and fast
        return [
            Edit(path=path, start=number, end=number, text=_text([new]))
            for number, (old, new) in reversed(
                list(enumerate(zip(wrong, right, strict=True), start=1))
            )
            if old != new
        ]
    matcher = difflib.SequenceMatcher(None, wrong, right, autojunk=False)
    return [
        Edit(path=path, start=start + 1, end=end, text=_text(right[left:stop]))
        for tag, start, end, left, stop in reversed(matcher.get_opcodes())
        if tag != "equal"
    ]


def _text(lines: list[str]) -> str:
    """Join lines; a last line that is empty keeps its line end, since '' means no line at all."""
    return "\n".join(lines) + ("\n" if lines and not lines[-1] else "")
