"""Makes a task, once all facts about its bug are known: the one place where both halves are filled.

Tests: tests/envs/projects/test_repair_task.py, tests/envs/sources/test_synthetic.py.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from envs.mutation.patches import make_edits, make_patch
from envs.records import (
    Difficulty,
    Edit,
    HiddenTask,
    IoCase,
    Provenance,
    RepairTask,
    Runtime,
    Span,
    Split,
)
from envs.source_text import holds_bytes, source_lines
from envs.syntax import find_innermost, last_line, parse_shared
from envs.tasks.store import BuiltTask, Files, hash_tree
from envs.tasks.trivial import is_trivial

SPAN_MARGIN = 6  # lines of a long function that gold reads on each side of the bug


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """All that a task is made of.

    Attributes:
        task_id: Says nothing about the bug.
        statement: What the agent reads first.
        workspace: What the agent gets.
        repaired: The same without the bug.
        tests: Ids of all tests that count, in order.
        visible_tests: Ids of those that the agent may run.
        failing: Ids of those that the bug fails.
        operators: What made the bug.
        limit_s: Seconds that a grading may compute.
        num_sites: Places that were changed, None for as many as gold has edits.
        pristine: The tree for submitted files, of the pytest grader.
        cases: The tests of the io grader, which has no tree.
        gold_spans: What gold reads, None for the functions around its edits.
        mutated_functions: Names of the functions with the bug, None if not known.
        call_distance: Calls from the nearest visible failing test to the bug, None if not known.
    """

    task_id: str
    project: str
    split: Split
    provenance: Provenance
    statement: str
    workspace: Files
    repaired: Files
    tests: Sequence[str]
    visible_tests: tuple[str, ...]
    failing: Collection[str]
    operators: tuple[str, ...]
    limit_s: float
    num_sites: int | None = None
    pristine: Files = field(default_factory=dict)
    runtime: Runtime = field(default_factory=Runtime)
    cases: tuple[IoCase, ...] = ()
    gold_spans: tuple[Span, ...] | None = None
    mutated_functions: Collection[str] | None = None
    call_distance: int | None = None


def assemble(facts: TaskFacts) -> BuiltTask:
    """Return the task: its visible tests are shown, the others hidden."""
    edits, spans = make_edits(facts.workspace, facts.repaired), facts.gold_spans
    if spans is None:
        spans = tuple(_find_span(facts.workspace[edit.path], edit) for edit in edits)
    paths = sorted({edit.path for edit in edits})
    public = RepairTask(
        id=facts.task_id,
        project=facts.project,
        split=facts.split,
        statement=facts.statement,
        workspace_sha=hash_tree(facts.workspace),
        editable=tuple(facts.workspace if facts.cases else paths),
        visible_tests=facts.visible_tests,
        visible_cases=tuple(case for case in facts.cases if case.id in facts.visible_tests),
        difficulty=Difficulty(
            sites=len(edits) if facts.num_sites is None else facts.num_sites,
            files=len(paths),
            lines=sum(
                len(source_lines(text))
                for text in facts.workspace.values()
                if not holds_bytes(text)
            ),
            failing_tests=len(facts.failing),
            call_distance=facts.call_distance,
            traceback_names_function=_names_function(facts),
            trivial=is_trivial(facts.statement, edits=edits, workspace=facts.workspace),
        ),
        provenance=facts.provenance,
    )
    hidden = HiddenTask(
        task_id=facts.task_id,
        grader="io" if facts.cases else "pytest",
        fail_to_pass=tuple(test for test in facts.tests if test in facts.failing),
        pass_to_pass=tuple(test for test in facts.tests if test not in facts.failing),
        unseen_tests=tuple(test for test in facts.tests if test not in facts.visible_tests),
        tests_sha=hash_tree(facts.pristine) if facts.pristine else "",
        cases=facts.cases,
        operators=facts.operators,
        gold_edits=edits,
        gold_patch=make_patch(facts.workspace, facts.repaired),
        gold_spans=spans,
        limit_s=facts.limit_s,
        runtime=facts.runtime,
    )
    return BuiltTask(public, hidden, facts.workspace, facts.pristine)


def _names_function(facts: TaskFacts) -> bool | None:
    """Tell whether a traceback in the statement names a function with the bug, if it is known."""
    if facts.mutated_functions is None:
        return None
    places = set(re.findall(r"\.py:\d+: in (\w+)", facts.statement))
    return not places.isdisjoint(facts.mutated_functions)


def _find_span(text: str, edit: Edit) -> Span:
    """Return the lines around an edit within the function that holds it."""
    function = find_innermost(parse_shared(text), edit.start, edit.end)
    first, last = (function.lineno, last_line(function)) if function else (edit.start, edit.end)
    start, end = max(first, edit.start - SPAN_MARGIN), min(last, edit.end + SPAN_MARGIN)
    return Span(path=edit.path, start=start, end=end)
