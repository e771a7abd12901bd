"""The last gate of every task: through the production grader, gold scores 1 and no-op 0.

Before comes the lint that no part of the answer shows (`envs/tasks/leaks.py`). Also here: the
measure by which functions of different splits count as near-duplicates.
"""

import ast
import io
import tokenize
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from envs.errors import InfrastructureError
from envs.mutation.patches import apply_edits
from envs.records import Grader, HiddenTask, Outcome
from envs.syntax import parse_python
from envs.tasks.build_report import GOLD_FAILS
from envs.tasks.leaks import leak as leak
from envs.tasks.store import BuiltTask, Files
from envs.tasks.streak import NO_SANDBOX, Streak

NEAR_DUPLICATE = 0.8  # Jaccard index of token 5-grams from which two functions count as one
Gram = tuple[str, ...]
_NUM_TRIES = 3  # gradings that the sandbox may spoil before the task is dropped


@dataclass(frozen=True)
class Checked:
    """One task after the gate; `reject` is the reason, or None for a task that counts."""

    task: BuiltTask
    reject: str | None


def validate(tasks: Iterable[BuiltTask], *, grader: Grader, workers: int = 2) -> Iterator[Checked]:
    """Yield every task checked, in order, with at most `4 * workers` in flight.

    A task on which the sandbox failed `_NUM_TRIES` times is rejected for that.

    Raises:
        InfrastructureError: It did so on several tasks in a row.
    """
    streak = Streak()
    pending: deque[tuple[BuiltTask, Future[Checked]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for task in tasks:
            pending.append((task, pool.submit(_check, task, grader)))
            if len(pending) >= 4 * workers:
                yield _settled(*pending.popleft(), streak)
        while pending:
            yield _settled(*pending.popleft(), streak)


def gold_files(task: BuiltTask) -> Files:
    """Return the workspace after the gold edits."""
    return apply_edits(task.workspace, task.hidden.gold_edits)


def score(outcome: Outcome) -> float:
    """Return fail-to-pass rate x pass-to-pass rate, 0 if tampered with."""
    if outcome.tampered:
        return 0.0
    return outcome.fail_to_pass_rate * outcome.pass_to_pass_rate


def graded(grader: Grader, hidden: HiddenTask, files: Files) -> Outcome:
    """Grade, again if the sandbox spoils it.

    Raises:
        InfrastructureError: It did so `_NUM_TRIES` times.
    """
    causes = []
    for _ in range(_NUM_TRIES):
        try:
            return grader.grade(hidden, files)
        except InfrastructureError as error:
            causes.append(str(error))
    raise InfrastructureError(f"task {hidden.task_id} could not be graded: {causes[-1]}")


def tokens_of(source: str) -> tuple[str, ...]:
    """Return the tokens of a function without its docstring, comments, layout and own name."""
    node = parse_python(source).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:]
    text = ast.unparse(node) if node.body else ""
    skipped = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT)
    return tuple(
        "_" if token.string == node.name else token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in skipped and token.string
    )


def shape_of(source: str) -> str:
    """Return the syntax tree of a function without docstring, own name, decorators and layout.

    Arguments and local names are numbered as they come, so a copy with other names is equal.
    """
    node = parse_python(source).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    own, node.name, node.decorator_list = node.name, "_", []
    inner = list(ast.walk(node))
    local = [each.arg for each in inner if isinstance(each, ast.arg)]
    local += [
        each.id for each in inner if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    ]
    names = {name: f"v{at}" for at, name in enumerate(dict.fromkeys(local))} | {own: "_"}
    for each in inner:
        if isinstance(each, ast.arg):
            each.arg = names[each.arg]
        elif isinstance(each, ast.Name):
            each.id = names.get(each.id, each.id)
    return ast.dump(node)


def grams_of(source: str) -> frozenset[Gram]:
    """Return the 5-grams of a function's tokens; of a shorter one its tokens."""
    tokens = tokens_of(source)
    return frozenset(tokens[at : at + 5] for at in range(max(1, len(tokens) - 4)))


def near_duplicates(left: frozenset[Gram], right: frozenset[Gram]) -> bool:
    """Tell whether two functions share most of their token 5-grams."""
    shared = len(left & right)
    return shared >= NEAR_DUPLICATE * (len(left) + len(right) - shared)


def _settled(task: BuiltTask, work: Future[Checked], streak: Streak) -> Checked:
    try:
        checked = work.result()
    except InfrastructureError as error:
        streak.failed(error)
        return Checked(task, NO_SANDBOX)
    streak.worked()
    return checked


def _check(task: BuiltTask, grader: Grader) -> Checked:
    reject = leak(task)
    if reject is None and score(graded(grader, task.hidden, gold_files(task))) != 1.0:
        reject = GOLD_FAILS
    if reject is None and score(graded(grader, task.hidden, task.workspace)) != 0.0:
        reject = "no-op does not score 0"
    return Checked(task, reject)
