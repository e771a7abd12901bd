"""Edits out of nowhere: those of lines that no view of their episode had shown.

A demonstration that edits such lines teaches guessing, however well it is solved. The record says
all: observations carry the lines they show, edits say how they move the others. Shown is what stood
in the prompt of some turn: results of the turn itself come too late, results that were evicted or
compacted away since had been seen. What the agent wrote itself it knows. Results of a turn that
submits are not recorded; its edits are taken as carried out.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from envs.records import Edit, Episode, Observed, Span, ToolCall
from envs.workspace import Workspace

Lines = defaultdict[str, set[int]]


def find_unseen_edits(episode: Episode, files: Mapping[str, str]) -> tuple[Span, ...]:
    """Return the spans of all edits that touch a line not shown before.

    Args:
        episode: Any episode.
        files: The workspace that it started from; tells where files end.

    Returns:
        Spans as the calls gave them, in the numbering of their time.
    """
    of_id = {
        observation.id: observation
        for event in episode.events
        if isinstance(event, Observed)
        for observation in event.observations
    }
    sight = _Sight(Workspace.of(files, tuple(files)))
    found = []
    for turn in episode.turns:
        sight.next_view()
        results = [of_id.get(name) for name in turn.observation_ids]
        for index, call in enumerate(turn.calls):
            result = results[index] if index < len(results) else None
            edit = _edit_of(call)
            failed = result and result.was_refused
            if edit and not failed and sight.can_edit(edit):
                if not sight.has_seen(edit):
                    found.append(Span(path=edit.path, start=edit.start, end=edit.end))
                sight.edit(edit)
            if result:
                sight.show(result.spans)
    return tuple(found)


def lines_to_see(edit: Edit, *, num_lines: int) -> range:
    """Return the lines that an edit replaces, or those that an insertion stands beside.

    Args:
        edit: The edit.
        num_lines: Lines of its file: behind the last one stands nothing.
    """
    if edit.end >= edit.start:
        return range(edit.start, edit.end + 1)
    return range(max(1, edit.start - 1), min(edit.start, num_lines) + 1)


@dataclass
class _Sight:
    """Lines of each file in its numbering now: seen in a view, or coming with the next one."""

    workspace: Workspace
    seen: Lines = field(default_factory=lambda: defaultdict(set))
    coming: Lines = field(default_factory=lambda: defaultdict(set))

    def next_view(self) -> None:
        for path, lines in self.coming.items():
            self.seen[path] |= lines
        self.coming.clear()

    def show(self, spans: tuple[Span, ...]) -> None:
        for span in spans:
            self.coming[span.path] |= set(range(span.start, span.end + 1))

    def can_edit(self, edit: Edit) -> bool:
        if edit.path not in self.workspace.files:
            return False
        num_lines = len(self.workspace.lines(edit.path))
        return 1 <= edit.start <= num_lines + 1 and edit.start - 1 <= edit.end <= num_lines

    def has_seen(self, edit: Edit) -> bool:
        num_lines = len(self.workspace.lines(edit.path))
        return self.seen[edit.path].issuperset(lines_to_see(edit, num_lines=num_lines))

    def edit(self, edit: Edit) -> None:
        num_before = len(self.workspace.lines(edit.path))
        span = Span(path=edit.path, start=edit.start, end=edit.end)
        new = self.workspace.edit(span, edit.text)
        moved_by = len(self.workspace.lines(edit.path)) - num_before
        for lines in (self.seen, self.coming):
            lines[edit.path] = {
                line + (moved_by if line > edit.end else 0)
                for line in lines[edit.path]
                if not edit.start <= line <= edit.end
            }
        self.seen[edit.path] |= set(range(new.start, new.end + 1))


def _edit_of(call: ToolCall) -> Edit | None:
    """Return what a call asks to edit; None for other tools and for calls that cannot be meant."""
    given = call.arguments
    if call.name != "edit_lines" or call.error is not None:
        return None
    try:
        return Edit(
            path=str(given["path"]),
            start=int(given["start"]),
            end=int(given["end"]),
            text=str(given["text"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
