"""From a broken tree to the gold one: as line edits in the broken numbering, and as a diff."""

import difflib
from collections.abc import Mapping, Sequence

from envs.records import Edit


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
