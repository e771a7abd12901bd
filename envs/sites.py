"""Where the bugs are: each edit of the gold patch, and the calls that find, read and make it.

Tests: tests/envs/test_policies.py.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.habits.options import Find
from envs.records import Edit, Observation, Span, ToolCall
from envs.source_text import source_lines
from envs.syntax import DEFINITIONS, find_innermost, last_line, parse_python
from envs.unseen import lines_to_see


@dataclass(frozen=True)
class Site:
    """One edit of the gold patch and the function that encloses it, in the broken file's numbering.

    Attributes:
        edit: The edit.
        function: Name of the function or class; '' at the top of a module.
        search: Text that finds its first line.
        outline: What `outline` says of the file.
        start: First line to read: of the function, or some lines before the edit.
        end: Last line to read.
        to_see: Lines that have to be in view before the edit.
        lines: Lines of the whole file.
        facts: Lines elsewhere that the repair needs.
    """

    edit: Edit
    function: str
    search: str
    outline: str
    start: int
    end: int
    to_see: range
    lines: list[str]
    facts: tuple[Span, ...] = ()

    @property
    def text(self) -> str:
        """What is read of it."""
        return "\n".join(self.lines[self.start - 1 : self.end])


def find_sites(
    edits: Sequence[Edit], files: Mapping[str, str], *, needed: Sequence[Span] = ()
) -> list[Site]:
    """Locate the innermost function around each edit; bottom-up within a file.

    Args:
        edits: The gold patch.
        files: The broken workspace.
        needed: All that has to be seen: spans with an edit, each before those of its facts.
    """
    sites, facts = [], find_facts(edits, files, needed=needed)
    for edit in sorted(edits, key=lambda e: (e.path, -e.start)):
        lines = source_lines(files[edit.path])
        name, head, start, end = "", "def ", max(1, edit.start - 5), edit.end + 5
        outline = []
        tree = parse_python(files[edit.path])
        for node in ast.walk(tree):
            if isinstance(node, DEFINITIONS):
                outline.append(f"{node.lineno}-{last_line(node)} {node.name}")
        at = min(edit.start, edit.end)  # an insertion stands behind the line `end`
        if (holder := find_innermost(tree, at, at, kinds=DEFINITIONS)) is not None:
            name, start, end = holder.name, holder.lineno, last_line(holder)
            head = ("class " if isinstance(holder, ast.ClassDef) else "def ") + name
        to_see = lines_to_see(edit, num_lines=len(lines))
        if to_see:  # an insertion behind the last line of a function stands beside the next one
            start, end = min(start, to_see[0]), max(end, to_see[-1])
        site = Site(
            edit=edit,
            function=name,
            search=head,
            outline="\n".join(outline),
            start=start,
            end=min(end, len(lines)),
            to_see=to_see,
            lines=lines,
            facts=facts[edit],
        )
        sites.append(site)
    return sites


def find_facts(
    edits: Sequence[Edit], files: Mapping[str, str], *, needed: Sequence[Span]
) -> dict[Edit, tuple[Span, ...]]:
    """Return for each edit where else it has to look: spans without an edit, behind its own.

    Args:
        edits: The gold patch.
        files: The broken workspace.
        needed: `gold_spans`; what stands before the first span with an edit is the first edit's.
    """
    facts: dict[Edit, list[Span]] = {edit: [] for edit in edits}
    last = list(edits[:1])
    for span in needed:
        here = [edit for edit in edits if stands_in(edit, span, files)]
        last = here or last
        for edit in () if here else last:
            facts[edit].append(span)
    return {edit: tuple(found) for edit, found in facts.items()}


def stands_in(edit: Edit, span: Span, files: Mapping[str, str]) -> bool:
    """Tell whether a span holds a line that has to be in view before the edit."""
    to_see = lines_to_see(edit, num_lines=len(source_lines(files[edit.path])))
    return span.path == edit.path and any(span.start <= line <= span.end for line in to_see)


def list_finding_calls(site: Site, find: Find) -> list[ToolCall]:
    """Return the calls that find a site and read it."""
    path = site.edit.path
    if find == "file":
        return [ToolCall(name="read_file", arguments={"path": path})]
    if find == "outline":
        return [ToolCall(name="outline", arguments={"path": path}), read_call(site)]
    return [ToolCall(name="search", arguments={"pattern": site.search}), read_call(site)]


def read_call(site: Site) -> ToolCall:
    """Return the call that reads a site's lines."""
    lines = {"path": site.edit.path, "start": site.start, "end": site.end}
    return ToolCall(name="read_lines", arguments=dict(lines))


def edit_call(edit: Edit) -> ToolCall:
    """Return the call that makes an edit."""
    return ToolCall(name="edit_lines", arguments=edit.model_dump())


def evict_call(observations: Sequence[Observation]) -> ToolCall:
    """Return the call that drops results."""
    ids = [each.id for each in observations]
    return ToolCall(name="evict", arguments={"observation_ids": [*ids]})
