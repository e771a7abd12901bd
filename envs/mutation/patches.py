"""From a broken tree to the gold one: as line edits in the broken numbering, and as a diff.

Also the way back from somebody else's unified diff to a tree (`apply_patch`). Edits count lines as
the parser does; lines of a diff end at LF alone, as in `git diff`, whatever stands before it.
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from envs.records import Edit, Span
from envs.source_text import source_lines, text_lines
from envs.syntax import is_python
from envs.workspace import Workspace

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_NO_FILE = "/dev/null"
_NO_END = "\\ No newline at end of file\n"


def make_edits(broken: Mapping[str, str], gold: Mapping[str, str]) -> tuple[Edit, ...]:
    """Return the fewest line replacements that mend `broken` and each leave Python that parses.

    Those of one file come from the bottom up, so that each is right after the ones before it. They
    give every byte back, unless line ends differ as no edit can make them: `apply_edits` shows it.
    """
    edits: list[Edit] = []
    for path in broken:
        if broken[path] != gold[path]:
            wrong, right = (source_lines(tree[path], keepends=True) for tree in (broken, gold))
            of_file = _file_edits(path, wrong, right)
            is_python = path.endswith(".py")
            edits += _joined(of_file, broken[path]) if is_python else of_file
    return tuple(edits)


def apply_edits(files: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    """Return `files` after `edits`, each in the numbering that the one before it left."""
    workspace = Workspace.of(files, ())
    for edit in edits:
        workspace.edit(Span(path=edit.path, start=edit.start, end=edit.end), edit.text)
    return workspace.files


def make_patch(broken: Mapping[str, str], gold: Mapping[str, str]) -> str:
    """Return the unified diff that repairs `broken`."""
    return "".join(
        line if line.endswith("\n") else f"{line}\n{_NO_END}"
        for path in broken
        if broken[path] != gold[path]
        for line in difflib.unified_diff(
            _diff_lines(broken[path]),
            _diff_lines(gold[path]),
            fromfile=f"a/{path}",
            tofile=f"b/{path}",
        )
    )


def apply_patch(files: dict[str, str], diff: str) -> dict[str, str]:
    """Return the files that a unified diff changes or adds, as it leaves them.

    Every hunk must fit where it says, letter for letter: a diff that fits elsewhere was made for
    another tree. Only line ends may differ; those of the files stay, and new lines get the same.

    Raises:
        ValueError: It does not fit, removes or renames a file, changes bytes, or is no diff.
    """
    changed: dict[str, list[str]] = {}
    lines = _diff_lines(diff if diff.endswith("\n") else f"{diff}\n")
    at, path, shift = 0, "", 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(("deleted file", "rename ", "Binary files", "GIT binary")):
            raise ValueError("removes or renames a file, or changes bytes")
        if line.startswith("new file") and at and lines[at - 1].startswith("diff --git "):
            changed[_added_path(lines[at - 1].rpartition(" ")[2], files)] = []
        if line.startswith("--- ") and "".join(lines[at + 1 : at + 2])[:4] == "+++ ":
            old, new = (_patched_path(each) for each in lines[at : at + 2])
            if old == _NO_FILE:
                files = files | {_added_path(new, files): ""}
            elif old != new:
                raise ValueError("removes or renames a file, or changes bytes")
            if new not in files:
                raise ValueError(f"changes {new}, which is not there")
            path, shift, at = new, 0, at + 2
            changed[path] = _diff_lines(files[path])
        elif (hunk := _HUNK.match(line)) and path:
            rows, at = _hunk(lines, at + 1, hunk)
            num_removed = sum(kind != "+" for kind, _ in rows)
            start = int(hunk[1]) + shift - (1 if num_removed else 0)
            there = changed[path][max(0, start) : start + num_removed]
            added = _applied(rows, there)
            if start < 0 or added is None:
                raise ValueError(f"does not fit {path} at line {hunk[1]}")
            changed[path][start : start + num_removed] = added
            shift += len(added) - num_removed
        else:
            at += 1
    if not changed:
        raise ValueError("is no unified diff")
    return {path: "".join(text) for path, text in changed.items()}


def _patched_path(line: str) -> str:
    """Return the path of '--- a/pkg/x.py<tab>date'."""
    path = line[4:].partition("\t")[0].strip()
    return path[2:] if path.startswith(("a/", "b/")) else path


def _added_path(path: str, files: Mapping[str, str]) -> str:
    """Return the path of a file that is added, which must be new and within the tree."""
    path = path.strip().removeprefix("b/")
    if path in files:
        raise ValueError(f"adds {path}, which is there already")
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"adds {path}, which is outside of the tree")
    return path


def _hunk(lines: list[str], at: int, head: re.Match[str]) -> tuple[list[tuple[str, str]], int]:
    """Return the lines of a hunk, each with its sign, and where it ends."""
    left, right = (int(count) if count is not None else 1 for count in head.group(2, 3))
    rows: list[tuple[str, str]] = []
    while left > 0 or right > 0 or _is_no_end(lines[at : at + 1]):
        if at == len(lines):
            raise ValueError("ends within a hunk")
        line = lines[at] if lines[at].strip("\r\n") else f" {lines[at]}"
        kind, text = line[0], line[1:]
        if kind == "\\" and rows:
            rows[-1] = (rows[-1][0], rows[-1][1].removesuffix("\n"))
        elif kind in " -+":
            rows.append((kind, text))
        else:
            raise ValueError("has a malformed hunk")
        left, right = left - (kind in " -"), right - (kind in " +")
        at += 1
    return rows, at


def _is_no_end(lines: list[str]) -> bool:
    return bool(lines) and lines[0].startswith("\\")


def _applied(rows: list[tuple[str, str]], there: list[str]) -> list[str] | None:
    """Return what a hunk makes of the lines that are there; None if it does not fit them."""
    removed = [text for kind, text in rows if kind != "+"]
    if removed == there:
        return [text for kind, text in rows if kind != "-"]
    if [*map(_without_cr, removed)] != [*map(_without_cr, there)]:
        return None
    end = "\r\n" if any(line.endswith("\r\n") for line in there) else "\n"
    kept = iter(there)
    after: list[str] = []
    for kind, text in rows:
        old = next(kept) if kind != "+" else ""
        if kind == " ":
            after.append(old)
        elif kind == "+":
            plain = _without_cr(text)
            after.append(plain.removesuffix("\n") + end if plain.endswith("\n") else plain)
    return after


def _without_cr(line: str) -> str:
    return f"{line[:-2]}\n" if line.endswith("\r\n") else line.removesuffix("\r")


def _diff_lines(text: str) -> list[str]:
    """Return the lines of a text as `diff` counts them, with their ends."""
    *whole, rest = text.split("\n")
    return [f"{line}\n" for line in whole] + [rest] * bool(rest)


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


def _joined(edits: list[Edit], text: str) -> list[Edit]:
    """Return edits of one file, each joined with the one below where that leaves no Python.

    `edit_lines` refuses such a one: what a call over three lines lacks may be in two places.
    """
    joined: list[Edit] = []
    for edit in edits:
        if joined and not is_python(apply_edits({edit.path: text}, joined)[edit.path]):
            below = joined.pop()
            between = source_lines(text)[edit.end : below.start - 1]
            lines = [*text_lines(edit.text), *between, *text_lines(below.text)]
            edit = edit.model_copy(update={"end": below.end, "text": _text(lines)})
        joined.append(edit)
    return joined


def _text(lines: list[str]) -> str:
    """Join lines; a last line that is empty keeps its line end, since '' means no line at all."""
    plain = [line.rstrip("\r\n") for line in lines]
    return "\n".join(plain) + ("\n" if plain and not plain[-1] else "")
