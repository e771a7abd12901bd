"""The last gate of every task: through the production grader, gold scores 1 and no-op 0.

Before come the lint that no part of the answer shows (`envs/tasks/leaks.py`), and an episode in
which gold makes its repair with the tools that agents have (`envs/tasks/gold_episode.py`). Also
here: the measure by which functions of different splits count as near-duplicates.
"""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from envs.grading.graders import Grader
from envs.mutation.patches import apply_edits
from envs.records import Outcome
from envs.syntax import DEFINITIONS, Definition, parse_python
from envs.tasks.build_report import GOLD_FAILS, GOLD_STUCK, NO_SANDBOX
from envs.tasks.gold_episode import play_gold
from envs.tasks.leaks import find_leak
from envs.tasks.parallel import run_in_order
from envs.tasks.store import BuiltTask, Files

NEAR_DUPLICATE = 0.8  # Jaccard index of token 5-grams from which two functions count as one
Gram = tuple[str, ...]


@dataclass(frozen=True)
class TaskCheck:
    """One task after the gate; `reject` is the reason, or None for a task that counts."""

    task: BuiltTask
    reject: str | None


def validate(
    tasks: Iterable[BuiltTask], *, grader: Grader, workers: int = 2
) -> Iterator[TaskCheck]:
    """Yield every task checked, in order, with at most `4 * workers` in flight.

    Raises:
        InfrastructureError: The sandbox failed on several tasks in a row.
    """
    with ThreadPoolExecutor(workers) as pool:
        yield from run_in_order(
            partial(check_task, grader=grader),
            tasks,
            on_failure=lambda task, _: TaskCheck(task, NO_SANDBOX),
            pool=pool,
            ahead=lambda: 4 * workers,
        )


def check_task(task: BuiltTask, *, grader: Grader) -> TaskCheck:
    """Return a task after the gate.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    reject = find_leak(task) or find_stuck_gold(task)
    if reject is None and score(grader.grade(task.hidden, apply_gold(task))) != 1.0:
        reject = GOLD_FAILS
    if reject is None and score(grader.grade(task.hidden, task.workspace)) != 0.0:
        reject = "no-op does not score 0"
    return TaskCheck(task, reject)


def find_stuck_gold(task: BuiltTask) -> str | None:
    """Return the reject of a task that gold, with the tools, does not leave as its edits say."""
    return None if play_gold(task) == apply_gold(task) else GOLD_STUCK


def apply_gold(task: BuiltTask) -> Files:
    """Return the workspace after the gold edits."""
    return apply_edits(task.workspace, task.hidden.gold_edits)


def score(outcome: Outcome) -> float:
    """Return fail-to-pass rate x pass-to-pass rate, 0 if tampered with."""
    if outcome.tampered:
        return 0.0
    return outcome.fail_to_pass_rate * outcome.pass_to_pass_rate


def describe_shape(source: str) -> str:
    """Return the syntax tree of a function without docstring, own name, decorators and layout.

    Arguments and local names are numbered as they come, so a copy with other names is equal.
    """
    node = _parse_definition(source)
    node.body = node.body or [ast.Pass()]
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


def list_grams(source: str) -> frozenset[Gram]:
    """Return the 5-grams of a function's tokens; of a shorter one its tokens.

    Left out are docstring, comments, layout and its own name.
    """
    node = _parse_definition(source)
    text = ast.unparse(node) if node.body else ""
    skipped = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT)
    tokens = tuple(
        "_" if token.string == node.name else token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in skipped and token.string
    )
    return frozenset(tokens[at : at + 5] for at in range(max(1, len(tokens) - 4)))


def are_near_duplicates(left: frozenset[Gram], right: frozenset[Gram]) -> bool:
    """Tell whether two functions share most of their token 5-grams."""
    shared = len(left & right)
    return shared >= NEAR_DUPLICATE * (len(left) + len(right) - shared)


def _parse_definition(source: str) -> Definition:
    """Return a function without its docstring."""
    (node,) = parse_python(source).body
    assert isinstance(node, DEFINITIONS)
    node.body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return node
