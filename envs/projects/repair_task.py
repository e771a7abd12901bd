"""Repair tasks from a real project: what to plant, and what a planted bug makes of the project.

Bugs to try take turns between functions and operators. Of a bug whose failing tests are known, one
test function is shown and the rest are hidden; pass-to-pass is the whole rest of the green suite.
Splits are by project, as the lock file says, and a function of dev or test that nearly repeats one
of an earlier split is left alone.
"""

import ast
import math
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from envs.errors import InfrastructureError
from envs.files import hash_text
from envs.mutation.bug import Bug
from envs.mutation.operators import Mutation, functions, sites
from envs.mutation.patches import gold_edits, gold_patch
from envs.projects.baseline import Baseline
from envs.projects.lock_file import Project
from envs.records import (
    SPLITS,
    Difficulty,
    Edit,
    Grader,
    HiddenTask,
    Provenance,
    RepairTask,
    Span,
)
from envs.source_text import source_lines
from envs.syntax import parse_python
from envs.tasks.store import BuiltTask, Files, content_sha
from envs.tasks.validate import Gram, gold_files, grams_of, near_duplicates, shape_of
from envs.tasks.visible_tests import TestFunction, function_of, visible_tree

GENERATOR = "projects/5"
MAX_PER_FUNCTION = 8  # candidates, so that no long function fills a split
MAX_PER_OPERATOR = 2  # of them by one operator: half of all sites would be return_none
LIMIT_S = 10.0  # of one grading at least: 5 times the toolz suite's cold time of 1.4 s, rounded up
MAX_SUITE_CPU_S = LIMIT_S / 2  # of a whole suite, for a grader that shares its processor
_SLOWER = 5  # a grading may be than its suite: on another machine, with the bug, beside others
STATEMENT_CHARS = 400
SPAN_MARGIN = 6  # lines of a long function that gold reads on each side of the bug
NUM_DESCRIBING_TRIES = 3  # that the sandbox may spoil before a task is dropped


class Function(NamedTuple):
    """A function or method of a project, by the name that a `Mutation` gives it."""

    project: str
    path: str
    name: str


def candidates(
    project: Project, *, files: Files, seed: int, repeats: Collection[Function] = ()
) -> list[Bug]:
    """Return single mutations to try in a random order that takes turns between functions.

    Of one function there are at most `MAX_PER_FUNCTION`, and `MAX_PER_OPERATOR` of one kind; of
    those in `repeats` none.
    """
    found = [mutation for path in project.mutated for mutation in sites(files[path], path=path)]
    random.Random(f"{GENERATOR}:{project.name}:{seed}").shuffle(found)
    queues: dict[Function, list[Mutation]] = defaultdict(list)
    for mutation in found:
        function = Function(project.name, mutation.path, mutation.function)
        if function not in repeats:
            queues[function].append(mutation)
    queues = {key: _mixed(queue) for key, queue in sorted(queues.items())}
    turns: list[Mutation] = []
    for turn in range(MAX_PER_FUNCTION):
        turns += [queue[turn] for queue in queues.values() if turn < len(queue)]
    return [Bug((mutation,)) for mutation in turns]


def _mixed(queue: Sequence[Mutation]) -> list[Mutation]:
    """Put a bug of each operator first, then a second of each; leave the others out."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, Mutation]] = []
    for mutation in queue:
        turns.append((seen[mutation.operator], mutation))
        seen[mutation.operator] += 1
    turns.sort(key=lambda turn: turn[0])
    return [mutation for number, mutation in turns if number < MAX_PER_OPERATOR]


def repeated_functions(trees: Sequence[tuple[Project, Files]]) -> set[Function]:
    """Return the functions of dev and test projects that nearly repeat one of an earlier split.

    That is: the same syntax tree but for the names of arguments and locals, or most of its 5-grams.
    """
    shapes: set[str] = set()
    earlier: list[frozenset[Gram]] = []
    repeats: set[Function] = set()
    for split in SPLITS:
        units = [
            (Function(project.name, path, name), _unparsed(node))
            for project, files in trees
            if project.split == split
            for path in project.mutated
            for name, node in functions(parse_python(files[path]))
            if not isinstance(node, ast.ClassDef)
        ]
        forms = [(shape_of(source), grams_of(source)) for _, source in units]
        repeats |= {
            name
            for (name, _), (shape, mine) in zip(units, forms, strict=True)
            if shape in shapes or any(near_duplicates(mine, old) for old in earlier)
        }
        shapes |= {shape for shape, _ in forms}
        earlier += [mine for _, mine in forms]
    return repeats


def _unparsed(node: ast.AST) -> str:
    """Return the source of a function; of one with a number too long to write, an empty one's."""
    try:
        return ast.unparse(node)
    except (ValueError, RecursionError):
        return f"def {getattr(node, 'name', '_')}(): ..."


def shown_functions(
    bug: Bug, *, project: Project, files: Files, failing: Collection[str]
) -> list[TestFunction]:
    """Return the failing test functions in the order in which one is to be shown to the agent."""
    found = sorted({function_of(test) for test in failing})
    random.Random(_name(bug, project, files)).shuffle(found)
    return found


def assemble(
    bug: Bug,
    *,
    failing: Collection[str],
    shown: TestFunction,
    project: Project,
    files: Files,
    suite: Baseline,
    seed: int,
) -> BuiltTask:
    """Make the task of a bug: show one failing test function, hide the rest.

    The statement is empty until `describe` has run what is visible.

    Args:
        failing: Ids of the tests that it fails.
        shown: The one of their functions that becomes visible.
        files: The unchanged tree.
    """
    task_id = "t_" + hash_text(_name(bug, project, files))[:12]
    visible = tuple(test for test in suite.green if function_of(test) == shown)
    workspace = visible_tree(files, shown) | bug.apply(files)
    mended = workspace | {path: files[path] for path in bug.paths}
    edits = gold_edits(workspace, mended)
    seen = [test for test in visible if test in failing]
    difficulty = Difficulty(
        sites=len(bug.mutations),
        files=len(bug.paths),
        lines=sum(len(source_lines(text)) for text in workspace.values()),
        failing_tests=len(failing),
        call_distance=suite.reach.distance(bug.mutations, tests=seen),
    )
    public = RepairTask(
        id=task_id,
        project=project.name,
        split=project.split,
        statement="",
        workspace_sha=content_sha(workspace),
        editable=bug.paths,
        visible_tests=visible,
        difficulty=difficulty,
        provenance=_provenance(project, seed),
    )
    hidden = HiddenTask(
        task_id=task_id,
        grader="pytest",
        fail_to_pass=tuple(test for test in suite.green if test in failing),
        pass_to_pass=tuple(test for test in suite.green if test not in failing),
        unseen_tests=tuple(test for test in suite.green if test not in visible),
        tests_sha=content_sha(files),
        operators=bug.operators,
        gold_edits=edits,
        gold_patch=gold_patch(workspace, mended),
        gold_spans=tuple(gold_span(workspace[edit.path], edit) for edit in edits),
        limit_s=grading_limit_s(project.suite_s),
        runtime=project.runtime,
    )
    return BuiltTask(public, hidden, workspace, files)


def grading_limit_s(suite_s: float) -> float:
    """Return how long a grading may compute, in steps of 5 s: times of suites vary a little.

    Args:
        suite_s: CPU seconds that the whole suite took when the project was pinned.
    """
    return max(LIMIT_S, float(_SLOWER * math.ceil(suite_s)))


def describe(task: BuiltTask, *, grader: Grader) -> str:
    """Return a task's statement: what its first failing visible test says.

    It is '' if none fails in the workspace, or one still does in the repaired one.

    Raises:
        InfrastructureError: The sandbox failed several times.
    """
    failing = dict(_visible_failures(task, task.workspace, grader=grader))
    shown = [test for test in failing if test in task.hidden.fail_to_pass]
    if not shown or _visible_failures(task, gold_files(task), grader=grader):
        return ""
    statement = f"{shown[0]} fails:\n{failing[shown[0]]}"
    statement = statement.replace(sys.base_prefix, "PYTHON")  # folders of machines differ, too
    return re.sub(r"\b0x[0-9a-f]+", "0x0", statement)[:STATEMENT_CHARS]  # addresses differ


def told(task: BuiltTask, statement: str, *, bug: Bug) -> BuiltTask:
    """Return the task with its statement, and whether that names a mutated function."""
    names = {mutation.function.rpartition(".")[2] for mutation in bug.mutations}
    places = set(re.findall(r"\.py:\d+: in (\w+)", statement))
    named = task.public.difficulty.model_copy(
        update={"traceback_names_function": bool(places & names)}
    )
    public = task.public.model_copy(update={"statement": statement, "difficulty": named})
    return replace(task, public=public)


def _visible_failures(
    task: BuiltTask, files: Files, *, grader: Grader
) -> tuple[tuple[str, str], ...]:
    causes = []
    for _ in range(NUM_DESCRIBING_TRIES):
        try:
            return grader.run_visible(task.public, files, "").failures
        except InfrastructureError as error:
            causes.append(str(error))
    raise InfrastructureError(f"task {task.public.id}: {causes[-1]}")


def _provenance(project: Project, seed: int) -> Provenance:
    return Provenance(
        source=project.source,
        origin=project.origin,
        licence=project.licence,
        sha256=project.sha256,
        generator=GENERATOR,
        seed=seed,
    )


def _name(bug: Bug, project: Project, files: Files) -> str:
    """Return what tells this bug from all others, on which its id and random choices hang."""
    return f"{GENERATOR}:{project.sha256}:{content_sha(bug.apply(files))}"


def gold_span(text: str, edit: Edit) -> Span:
    """Return the lines around an edit within the function that holds it."""
    first, last = edit.start, edit.end
    for node in ast.walk(parse_python(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stop = node.end_lineno or node.lineno
            if node.lineno <= edit.start and edit.end <= stop:  # walk goes inwards: innermost stays
                first, last = node.lineno, stop
    start, end = max(first, edit.start - SPAN_MARGIN), min(last, edit.end + SPAN_MARGIN)
    return Span(path=edit.path, start=start, end=end)
