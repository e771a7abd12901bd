"""Cuts a test file down to its visible tests, by span: what stays is letter for letter as it was.

Hidden tests go, and so do helpers and data that only they use, because those tell what they
check.
"""

import ast
from collections.abc import Collection

from envs.syntax import parse_python

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def keep_tests(text: str, *, names: Collection[str], whole: bool = False) -> str:
    """Return a test file with those test functions and methods only whose names are in `names`.

    Imports, fixtures, test classes and whatever the rest refers to stay; a class that is left
    without a body gets `pass`. All helpers stay in a file that others import (`whole`).
    """
    lines = text.split("\n")
    kept: list[str | None] = list(lines)
    tree = parse_python(text)
    for owner in ast.walk(tree):
        if isinstance(owner, (ast.Module, ast.ClassDef)):
            dropped = [node for node in owner.body if _is_test(node) and _name(node) not in names]
            for node in dropped:
                _cut(kept, node, lines=lines, is_last=node is owner.body[-1])
            if dropped and len(dropped) == len(owner.body) and isinstance(owner, ast.ClassDef):
                kept[dropped[0].lineno - 1] = " " * dropped[0].col_offset + "pass"
    for node in [] if whole else _unused(tree, names):
        _cut(kept, node, lines=lines, is_last=False)
    return "\n".join(line for line in kept if line is not None).rstrip("\n") + "\n"


def _unused(tree: ast.Module, names: Collection[str]) -> list[ast.stmt]:
    """Return top-level helpers, classes and constants that nothing that stays refers to."""
    optional = {
        _name(node): node
        for node in tree.body
        if _name(node)
        and not _is_test(node)
        and not _is_test_class(node)
        and not getattr(node, "decorator_list", [])
    }
    waiting = [node for node in tree.body if node not in optional.values()]
    used: set[str] = set()
    while waiting:
        found = _references(waiting.pop(), names)
        waiting += [optional[name] for name in found - used if name in optional]
        used |= found
    return [node for name, node in optional.items() if name not in used]


def _references(node: ast.AST, names: Collection[str]) -> set[str]:
    """Return all names that a statement uses, its dropped tests left out."""
    if _is_test(node) and _name(node) not in names:
        return set()
    found = {node.id} if isinstance(node, ast.Name) else set()
    return found.union(*(_references(child, names) for child in ast.iter_child_nodes(node)))


def _cut(kept: list[str | None], node: ast.stmt, *, lines: list[str], is_last: bool) -> None:
    """Remove a statement with its decorators and, unless it ends a block, the blanks after it."""
    decorators = getattr(node, "decorator_list", [])
    start = min([node.lineno, *(item.lineno for item in decorators)])
    end = node.end_lineno or node.lineno
    while not is_last and end < len(lines) and not lines[end].strip():
        end += 1
    kept[start - 1 : end] = [None] * (end - start + 1)


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, _Function) and node.name.startswith("test")


def _is_test_class(node: ast.stmt) -> bool:
    """Tell whether a class may be collected: `TestX`, or one whose bases say that it is a test."""
    if not isinstance(node, ast.ClassDef):
        return False
    return any("Test" in name for name in (node.name, *map(ast.unparse, node.bases)))


def _name(node: ast.AST) -> str:
    """Return the name that a definition or a plain assignment binds, or ''."""
    if isinstance(node, (*_Function, ast.ClassDef)):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""
