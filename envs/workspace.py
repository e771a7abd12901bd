"""Files of one task as the agent edits them, with the line shifts that keep pointers true.

Text only, in memory; nothing here touches the disk. Paths are the task's own relative paths.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from envs.records import Span
from envs.source_text import bom_of, source_lines, text_lines


@dataclass(frozen=True)
class _Shift:
    """After an edit of lines `start..end`, lines behind `end` moved by `delta`."""

    path: str
    start: int
    end: int
    delta: int


@dataclass(frozen=True)
class Changes:
    """What an episode has done to its workspace and seen of it: enough to make it again.

    Attributes:
        edited: Text of the files that were edited.
        shifts: All edits.
        shown: Which lines were shown, under the numbering of which version.
    """

    edited: dict[str, str]
    shifts: tuple[_Shift, ...]
    shown: tuple[tuple[Span, int], ...]


@dataclass
class Workspace:
    """The mutable tree of one episode.

    Attributes:
        files: Path to text.
        editable: Paths that may change; all others are read-only.
    """

    files: dict[str, str]
    editable: frozenset[str]
    _shifts: list[_Shift] = field(default_factory=list)
    _shown: list[tuple[Span, int]] = field(default_factory=list)

    @classmethod
    def of(cls, files: Mapping[str, str], editable: tuple[str, ...]) -> "Workspace":
        """Copy `files` into a workspace of its own."""
        return cls(dict(files), frozenset(editable))

    def lines(self, path: str) -> list[str]:
        """Return the lines of `path` without line ends."""
        return source_lines(self.files[path])

    def show(self, span: Span, *, version: int) -> None:
        """Remember that the agent has seen `span` under the numbering of `version`."""
        self._shown.append((span, version))

    def is_stale(self, span: Span) -> bool:
        """Tell whether an edit moved these lines since they were last shown (or ever)."""
        seen = max(
            (
                version
                for shown, version in self._shown
                if shown.path == span.path
                and shown.start <= span.start
                and max(span.end, span.start - 1) <= shown.end
            ),
            default=0,
        )
        return any(
            shift.path == span.path and shift.delta and shift.start <= max(span.end, span.start)
            for shift in self._shifts[seen:]
        )

    def edit(self, span: Span, text: str) -> Span:
        """Replace `span` by `text` ('' deletes) and return the new lines' span.

        All other bytes stay. New lines end as those that they replace, or as their neighbours.
        """
        before = self.files[span.path]
        new = text_lines(text)
        self.files[span.path] = _spliced(before, new, start=span.start, end=span.end)
        delta = len(new) - (span.end - span.start + 1)
        self._shifts.append(_Shift(span.path, span.start, span.end, delta))
        return Span(path=span.path, start=span.start, end=span.start + len(new) - 1)

    @property
    def version(self) -> int:
        """Number of edits so far; pointers remember it."""
        return len(self._shifts)

    def moved(self, span: Span, *, since: int) -> Span:
        """Return where the lines of `span`, true at version `since`, are now."""
        start, end = span.start, span.end
        for shift in self._shifts[since:]:
            if shift.path != span.path:
                continue
            if shift.end < start:
                start += shift.delta
                end += shift.delta
            elif shift.start <= end:
                end = max(start, end + shift.delta)
        return Span(path=span.path, start=start, end=end)

    def changes(self) -> Changes:
        """Return what was done so far."""
        edited = {path: self.files[path] for path in {shift.path for shift in self._shifts}}
        return Changes(edited, tuple(self._shifts), tuple(self._shown))

    def take(self, changes: Changes) -> None:
        """Become the workspace, of the same task, that `changes` are of."""
        self.files.update(changes.edited)
        self._shifts, self._shown = list(changes.shifts), list(changes.shown)


def number_lines(lines: Iterable[str], start: int) -> str:
    """Return lines as tools show them, each behind its number."""
    return "\n".join(f"{number}: {line}" for number, line in enumerate(lines, start))


def _spliced(text: str, new: list[str], *, start: int, end: int) -> str:
    """Return `text` with the lines `new` in place of lines `start` to `end`."""
    old = source_lines(text, keepends=True)
    head, tail = old[: start - 1], old[end:]
    ends = [_end_of(line) for line in old[start - 1 : end]]
    near = [*reversed(ends), *map(_end_of, head[:-3:-1]), *map(_end_of, tail[:1])]
    usual = next((each for each in near if each), "\n")
    last = ends[-1] if ends else usual
    if new and head and not _end_of(head[-1]):  # behind a last line without an end
        head[-1] += usual
        last = ""
    given = [each or usual for each in ends[: len(new) - 1]]
    given += [usual] * (len(new) - 1 - len(given)) + [last]
    pieces = [line + each for line, each in zip(new, given, strict=False)]
    if new and not pieces[-1]:
        pieces[-1] = usual  # without an end, an empty line would be none
    whole = bom_of(text)
    for piece in ("".join(head), *pieces, "".join(tail)):
        # What is a line end each, a lone CR and a lone LF, would be one line end.
        whole += "\n" + piece if whole.endswith("\r") and piece.startswith("\n") else piece
    return whole


def _end_of(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]
