"""What has to be in view before an edit may be made: its own lines, and facts from elsewhere.

A reader knows the repair as a teacher does, but leaves alone what it cannot get to see. The lines
of the edit it has to see always; spans of `gold_spans` in which nothing is edited are facts (a
table, a unit, a rule) that the repair before them in that list needs. Then it needs the function
too, which says what to look for. Without facts nothing more of the function is asked: so little is
enough for the barest reader, and the barest decides which windows need a rewrite.

Tests: tests/envs/readers/test_needs.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envs.records import Edit, HiddenTask, Span
from envs.sites import find_facts, stands_in
from envs.source_text import source_lines
from envs.unseen import lines_to_see

Line = tuple[str, int]
"""Path and number of a line, from 1, in the numbering of the broken workspace."""


@dataclass(frozen=True)
class Need:
    """One edit, and what it needs.

    Attributes:
        edit: The edit, in the numbering of the broken workspace.
        to_see: Lines that must be in view before it, those of facts included.
        around: What a reader with an ordinary eye reads of its file: mostly a function.
        facts: Where else it has to look.
    """

    edit: Edit
    to_see: frozenset[Line]
    around: tuple[Span, ...]
    facts: tuple[Span, ...]


def find_needs(hidden: HiddenTask, files: Mapping[str, str]) -> tuple[Need, ...]:
    """Return what each gold edit needs, bottom-up within a file, so that no edit moves the next."""
    facts = find_facts(hidden.gold_edits, files, needed=hidden.gold_spans)
    needs = []
    for edit in sorted(hidden.gold_edits, key=lambda edit: (edit.path, -edit.start)):
        own = _lines(edit, files)
        spans = [span for span in hidden.gold_spans if stands_in(edit, span, files)]
        seen = list_lines((*spans, *facts[edit])) if facts[edit] else set[Line]()
        around = join_lines(own | list_lines(spans))
        needs.append(Need(edit, frozenset(own | seen), around, facts[edit]))
    return tuple(needs)


def list_lines(spans: Iterable[Span]) -> set[Line]:
    """Return the lines of spans."""
    return {(span.path, line) for span in spans for line in range(span.start, span.end + 1)}


def _lines(edit: Edit, files: Mapping[str, str]) -> set[Line]:
    num_lines = len(source_lines(files[edit.path]))
    return {(edit.path, line) for line in lines_to_see(edit, num_lines=num_lines)}


def join_lines(lines: Iterable[Line]) -> tuple[Span, ...]:
    """Return runs of lines as spans."""
    spans: list[Span] = []
    for path, line in sorted(lines):
        if spans and spans[-1].path == path and spans[-1].end == line - 1:
            spans[-1] = spans[-1].model_copy(update={"end": line})
        else:
            spans.append(Span(path=path, start=line, end=line))
    return tuple(spans)
