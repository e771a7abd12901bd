"""What a reject says in particular: which test is not there and what is, or which one fails.

Tests: tests/envs/importers/test_check_instance.py.
"""

import ast
from collections.abc import Collection, Iterator

from envs.errors import list_near
from envs.grading.test_suite import run_suite
from envs.projects.baseline import SUITE_LIMIT_S, find_reason
from envs.sandbox.fork_server import ForkServer
from envs.syntax import FUNCTIONS, parse_python
from envs.tasks.store import Files


def explain_missing(test: str, files: Files) -> str:
    """Say why a test that was named did not run: no such file or test, with near misses."""
    path, _, name = test.partition("::")
    if path not in files:
        return _name_near(path, files, what="file")
    try:
        known = list(_list_tests(parse_python(files[path])))
    except (SyntaxError, ValueError, RecursionError):
        return "its file is no Python"
    head = name.partition("[")[0]
    if head in known:
        return "no such case" if "[" in name else "it is skipped, or not collected"
    return _name_near(head, known, what="test")


def find_failure(server: ForkServer, files: Files, *, ids: Collection[str]) -> str:
    """Return ' (test: reason)' of a test that fails though it should not, or ''."""
    run = run_suite(server, files, ids=ids, limit_s=SUITE_LIMIT_S)
    failed = sorted(set(ids) - run.passed)
    if not failed:
        return " (the static screen, or the tools, refuse what it adds)"
    said = run.messages.get(failed[0]) or run.ending
    return f" ({failed[0]}: {find_reason(said)})"


def _name_near(name: str, known: Collection[str], *, what: str) -> str:
    near = list_near(name, known)
    return f"no such {what}" + (f", but {' and '.join(near)}" if near else "")


def _list_tests(node: ast.AST, prefix: str = "") -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            yield prefix + child.name
        elif isinstance(child, ast.ClassDef):
            yield from _list_tests(child, f"{prefix}{child.name}::")
        else:
            yield from _list_tests(child, prefix)
