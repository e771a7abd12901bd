"""The lint of every task: no part of the answer shows in what an agent may read.

Parts of an answer are the operators that made the bug, the lines of the repair and the hidden
tests; an agent may read statement, id, paths and workspace. Names of one word are no operators
here, since prose may hold them; lines under `MIN_GOLD_CHARS` are in every program.

Not covered: a statement that says in other words what to do.
"""

import re
from collections.abc import Collection

from envs.mutation.operators import OPERATORS
from envs.source_text import text_lines
from envs.tasks.store import BuiltTask
from envs.tasks.suite_files import find_suite, is_doctest
from envs.tasks.visible_tests import parse_test_id

MIN_GOLD_CHARS = 8


def find_leak(task: BuiltTask) -> str | None:
    """Say which part of the answer shows where in the public half, or None."""
    public, hidden = task.public, task.hidden
    operators = {operator.__name__ for operator in OPERATORS} | set(hidden.operators)
    operators = {name for name in operators if "_" in name}
    gold = {_plain(line) for edit in hidden.gold_edits for line in text_lines(edit.text)}
    gold = {line for line in gold if len(line) >= MIN_GOLD_CHARS}
    shown = {_named(test) for test in public.visible_tests}
    unseen = {_named(test) for test in hidden.unseen_tests} - shown
    folders = {part for test in public.visible_tests for part in test.split("::")[0].split("/")}
    origin = public.provenance.origin
    places = {
        "statement": _plain(public.statement),
        "id": "\n".join((public.id, public.project, origin, public.provenance.generator)),
        "paths": "\n".join((*task.workspace, *public.editable, *public.visible_tests)),
    }
    for place, text in places.items():
        if any(name in text for name in operators):
            return f"leak: operator in the {place}"
        if any(line in text for line in gold):
            return f"leak: gold line in the {place}"
        if place != "paths" and _names_one(text, unseen - folders):
            return f"leak: hidden test in the {place}"
    if hidden.grader == "pytest":
        return _find_shown_test(task, unseen) or _find_shown_copy(task)
    return None


def _find_shown_copy(task: BuiltTask) -> str | None:
    """Say whether a file named like a repaired one, as builds and editors leave them, holds it."""
    for edit in task.hidden.gold_edits:
        name = edit.path.rpartition("/")[2]
        lines = {line for line in map(_plain, text_lines(edit.text)) if len(line) >= MIN_GOLD_CHARS}
        for path, text in task.workspace.items():
            is_named_so = path != edit.path and path.rpartition("/")[2].startswith(name)
            if is_named_so and not lines.isdisjoint(map(_plain, text_lines(text))):
                return "leak: a copy of the repair in the workspace"
    return None


def _find_shown_test(task: BuiltTask, unseen: Collection[str]) -> str | None:
    """Say whether the suite's files that are left hold a hidden test, or nothing but such.

    Doctests stand where everybody reads them, and a name of a test may be that of a function.
    """
    files = {**task.workspace, **task.tests}
    tests = [test for test in task.hidden.unseen_tests if not is_doctest(test, files)]
    hidden = {test.partition("::")[0] for test in tests}
    hidden -= {test.partition("::")[0] for test in task.public.visible_tests}
    if not hidden.isdisjoint(task.workspace):
        return "leak: hidden test in the paths"
    suite = find_suite(files, [*tests, *task.public.visible_tests])
    sources = task.tests.keys() - suite
    for path in task.workspace.keys() - sources:
        if not set(re.findall(r"def (\w+)", task.workspace[path])).isdisjoint(unseen):
            return "leak: hidden test in the workspace"
    return None


def _names_one(text: str, names: Collection[str]) -> bool:
    """Tell whether one of `names` is a word of the text, other than a file's name."""
    if not set(re.findall(r"\b\w+\b(?!\.py)", text)).isdisjoint(names):
        return True
    odd = (name for name in names if not name.isidentifier())
    return any(re.search(rf"\b{re.escape(name)}\b", text) for name in odd)


def _plain(text: str) -> str:
    """Return a text with single spaces, since line ends and indents do not hide anything."""
    return " ".join(text.split())


def _named(test: str) -> str:
    """Return the function of a pytest id, or the whole id of another grader's test."""
    return parse_test_id(test)[1] or test
