"""Repair tasks from a real project: plant one bug, see which tests it breaks, hide all but one.

A mutant counts when three runs in the sandbox fail the same tests, at least two of different
functions (one is shown, the rest stay hidden), and no more than half of the suite. Splits are by
project, as the lock file says, and a function of dev or test that nearly repeats one of an earlier
split is left alone. Pass-to-pass is the whole rest of the green suite.
"""

import ast
import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from envs.errors import InfrastructureError
from envs.records import (
    Difficulty,
    Edit,
    Grader,
    HiddenTask,
    Provenance,
    RepairTask,
    Span,
    Split,
)
from envs.syntax import parse_python
from envs.tasks.mutate import Mutation, apply, functions, sites
from envs.tasks.patches import gold_edits, gold_patch
from envs.tasks.projects import Project, is_test_file
from envs.tasks.store import BuiltTask, Files, content_sha
from envs.tasks.validate import Gram, gold_files, grams_of, near_duplicates
from envs.tasks.visible import keep_tests

GENERATOR = "projects/2"
MAX_PER_FUNCTION = 8  # candidates, so that no long function fills a split
MAX_PER_OPERATOR = 2  # of them by one operator: half of all sites would be return_none
LIMIT_S = 10.0  # of one grading: 5 times the toolz suite's cold time of 1.4 s, rounded up
STATEMENT_CHARS = 400
SPAN_MARGIN = 6  # lines of a long function that gold reads on each side of the bug
NUM_DESCRIBING_TRIES = 3  # that the sandbox may spoil before a task is dropped
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class Function(NamedTuple):
    """A function or method of a project, by the name that a `Mutation` gives it."""

    project: str
    path: str
    name: str


@dataclass(frozen=True)
class Candidate:
    """A planted bug before anyone ran it; `text` is the whole mutated file."""

    mutation: Mutation
    text: str


@dataclass(frozen=True)
class Probed:
    """What the suite says of a candidate: the tests that fail, or why it is of no use."""

    candidate: Candidate
    failing: frozenset[str]
    reject: str | None


def candidates(
    project: Project, *, files: Files, seed: int, repeats: Collection[Function] = ()
) -> list[Candidate]:
    """Return bugs to try in a random order that takes turns between functions.

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
    return [Candidate(mutation, apply(files[mutation.path], mutation)) for mutation in turns]


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
    """Return the functions of dev and test projects that nearly repeat one of an earlier split."""
    earlier: list[frozenset[Gram]] = []
    repeats: set[Function] = set()
    for split in SPLITS:
        units = [
            (Function(project.name, path, name), grams_of(ast.unparse(node)))
            for project, files in trees
            if project.split == split
            for path in project.mutated
            for name, node in functions(parse_python(files[path]))
            if not isinstance(node, ast.ClassDef)
        ]
        repeats |= {
            name for name, grams in units if any(near_duplicates(grams, old) for old in earlier)
        }
        earlier += [grams for _, grams in units]
    return repeats


def assemble(
    probed: Probed, *, project: Project, files: Files, green: Sequence[str], seed: int
) -> BuiltTask:
    """Make the task of a candidate that passed: show one failing test function, hide the rest.

    The statement is empty until `describe` has run what is visible.
    """
    mutation = probed.candidate.mutation
    text = probed.candidate.text
    name = f"{GENERATOR}:{project.sha256}:{mutation.path}:{content_sha({mutation.path: text})}"
    task_id = "t_" + hashlib.sha256(name.encode()).hexdigest()[:12]
    shown = random.Random(name).choice(sorted({function_of(test) for test in probed.failing}))
    visible = tuple(test for test in green if function_of(test) == shown)
    workspace = _visible_tree(files, shown) | {mutation.path: text}
    edits = gold_edits(workspace, workspace | {mutation.path: files[mutation.path]})
    public = RepairTask(
        id=task_id,
        project=project.name,
        split=project.split,
        statement="",
        workspace_sha=content_sha(workspace),
        editable=(mutation.path,),
        visible_tests=visible,
        difficulty=Difficulty(
            sites=1,
            files=1,
            lines=sum(len(text.splitlines()) for text in workspace.values()),
            failing_tests=len(probed.failing),
        ),
        provenance=Provenance(
            source="projects",
            origin=f"pypi:{project.name}=={project.version}",
            licence=project.licence,
            sha256=project.sha256,
            generator=GENERATOR,
            seed=seed,
        ),
    )
    hidden = HiddenTask(
        task_id=task_id,
        grader="pytest",
        fail_to_pass=tuple(test for test in green if test in probed.failing),
        pass_to_pass=tuple(test for test in green if test not in probed.failing),
        unseen_tests=tuple(test for test in green if test not in visible),
        tests_sha=content_sha(files),
        operators=(mutation.operator,),
        gold_edits=edits,
        gold_patch=gold_patch(workspace, workspace | {mutation.path: files[mutation.path]}),
        gold_spans=tuple(_gold_span(text, edit) for edit in edits),
        limit_s=LIMIT_S,
    )
    return BuiltTask(public, hidden, workspace, files)


def describe(task: BuiltTask, *, grader: Grader) -> BuiltTask:
    """Return the task with its statement: what its first failing visible test says.

    If none fails in the workspace, or one still does in the repaired one, the statement stays
    empty and the task is of no use.

    Raises:
        InfrastructureError: The sandbox failed several times.
    """
    failing = dict(_visible_failures(task, task.workspace, grader=grader))
    shown = [test for test in failing if test in task.hidden.fail_to_pass]
    if not shown or _visible_failures(task, gold_files(task), grader=grader):
        return task
    statement = f"{shown[0]} fails:\n{failing[shown[0]]}"
    statement = re.sub(r"\b0x[0-9a-f]+", "0x0", statement)[:STATEMENT_CHARS]  # addresses differ
    return replace(task, public=task.public.model_copy(update={"statement": statement}))


def _visible_failures(
    task: BuiltTask, files: Files, *, grader: Grader
) -> tuple[tuple[str, str], ...]:
    for _ in range(NUM_DESCRIBING_TRIES):
        report = grader.run_visible(task.public, files, "")
        if report.unscorable is None:
            return report.failures
    raise InfrastructureError(f"task {task.public.id}: {report.unscorable}")


def _visible_tree(files: Files, shown: tuple[str, str]) -> Files:
    """Return a tree without its suite but for one test function and what that needs to run."""
    path, name = shown
    kept = {
        where: keep_tests(text, names={name}, whole=True) if is_test_file(where) else text
        for where, text in files.items()
        if not is_test_file(where) or _supports(where, path)
    }
    return kept | {path: keep_tests(files[path], names={name})}


def _supports(path: str, test_path: str) -> bool:
    """Tell whether a file of a suite is an __init__ or conftest above a test file."""
    folder, _, name = path.rpartition("/")
    return name in ("__init__.py", "conftest.py") and test_path.startswith(f"{folder}/")


def function_of(test: str) -> tuple[str, str]:
    """Return the file and the function of a test id, without class and parameters."""
    path, _, rest = test.partition("::")
    return path, rest.partition("[")[0].rpartition("::")[2]


def _gold_span(text: str, edit: Edit) -> Span:
    """Return the lines around an edit within the function that holds it."""
    first, last = edit.start, edit.end
    for node in ast.walk(parse_python(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stop = node.end_lineno or node.lineno
            if node.lineno <= edit.start and edit.end <= stop:  # walk goes inwards: innermost stays
                first, last = node.lineno, stop
    start, end = max(first, edit.start - SPAN_MARGIN), min(last, edit.end + SPAN_MARGIN)
    return Span(path=edit.path, start=start, end=end)
