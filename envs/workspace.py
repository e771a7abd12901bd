"""Files of one task as the agent edits them, with the line shifts that keep pointers true.

Text only, in memory; nothing here touches the disk. Paths are the task's own relative paths.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from envs.records import Span


@dataclass(frozen=True)
class _Shift:
    """After an edit of lines `start..end`, lines behind `end` moved by `delta`."""

    path: str
    start: int
    end: int
    delta: int


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
        return self.files[path].splitlines()

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
        """Replace `span` by `text` ('' deletes) and return the new lines' span."""
        old = self.lines(span.path)
        new = text.splitlines()
        after = old[: span.start - 1] + new + old[span.end :]
        self.files[span.path] = "\n".join(after) + "\n" if after else ""
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
