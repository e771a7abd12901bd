"""Cuts a suite down to its visible tests, by span: what stays is letter for letter as it was.

Hidden tests go, and so do helpers and data of the test file that only they use, because those tell
what they check. Modules that it imports keep theirs.

Not covered: data files below the tests, even if a visible test reads them.
"""

import ast
import functools
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from envs.grading.test_suite import is_collected, is_test_file
from envs.source_text import bom_of, source_lines
from envs.syntax import DEFINITIONS, FUNCTIONS, find_imports, first_line, last_line, parse_python
from envs.tasks.store import Files

TestFunction = tuple[str, str]  # file and name, without class and parameters


def parse_test_id(test: str) -> TestFunction:
    """Return the file and the function of a test id, without class and parameters."""
    path, _, rest = test.partition("::")
    return path, rest.partition("[")[0].rpartition("::")[2]


def show_test(files: Files, shown: TestFunction) -> Files:
    """Return a tree without its suite but for one test function and what that needs to run.

    That is: each `__init__.py` and `conftest.py` above it, and the modules of the suite that it
    imports, if they are no test files themselves.
    """
    path, name = shown
    needed = {path}
    while more := set(_needed(files, needed)) - needed:
        needed |= more
    return {
        where: keep_tests(text, names={name}, whole=where != path) if where in needed else text
        for where, text in files.items()
        if where in needed or not is_test_file(where)
    }


def _needed(files: Files, needed: Collection[str]) -> Iterator[str]:
    """Yield files of a suite without which some of its files cannot be imported."""
    imported = set[str]().union(*(_imported(files[path]) for path in needed))
    for path in files:
        if not is_test_file(path) or is_collected(path):
            continue
        folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
        is_above = any(PurePosixPath(each).is_relative_to(folder) for each in needed)
        if name in ("__init__.py", "conftest.py"):
            is_used = is_above or (name == "__init__.py" and folder.name in imported)
        else:
            is_used = name.endswith(".py") and PurePosixPath(path).stem in imported
        if is_used and _is_python(files[path]):  # and not data of the suite, for another Python
            yield path


def _is_python(text: str) -> bool:
    try:
        _imported(text)
    except SyntaxError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _imported(text: str) -> frozenset[str]:
    """Return all words of a file's import statements."""
    return frozenset(part for name in find_imports(parse_python(text)) for part in name.split("."))


def keep_tests(text: str, *, names: Collection[str], whole: bool = False) -> str:
    """Return a test file with those test functions and methods only whose names are in `names`.

    Imports, fixtures, test classes and whatever the rest refers to stay; a class that is left
    without a body gets `pass`. All helpers stay in a file that others import (`whole`).
    """
    lines = source_lines(text, keepends=True)
    kept: list[str | None] = list(lines)
    tree = parse_python(text)
    for owner in ast.walk(tree):
        if isinstance(owner, (ast.Module, ast.ClassDef)):
            dropped = [node for node in owner.body if _is_test(node) and _name(node) not in names]
            for node in dropped:
                _cut(kept, node, lines=lines, is_last=node is owner.body[-1])
            if dropped and len(dropped) == len(owner.body) and isinstance(owner, ast.ClassDef):
                head = lines[dropped[0].lineno - 1]
                end = head[len(head.rstrip("\r\n")) :] or "\n"
                kept[dropped[0].lineno - 1] = " " * dropped[0].col_offset + "pass" + end
    for node in [] if whole else _unused(tree, names):
        _cut(kept, node, lines=lines, is_last=False)
    left = [line for line in kept if line is not None]
    while len(left) < len(lines) and left and not left[-1].strip():
        left.pop()  # blank lines that stood before what was cut
    return bom_of(text) + "".join(left)


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
    start, end = first_line(node), last_line(node)
    while not is_last and end < len(lines) and not lines[end].strip():
        end += 1
    kept[start - 1 : end] = [None] * (end - start + 1)


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, FUNCTIONS) and node.name.startswith("test")


def _is_test_class(node: ast.stmt) -> bool:
    """Tell whether a class may be collected: `TestX`, or one whose bases say that it is a test."""
    if not isinstance(node, ast.ClassDef):
        return False
    return any("Test" in name for name in (node.name, *map(ast.unparse, node.bases)))


def _name(node: ast.AST) -> str:
    """Return the name that a definition or a plain assignment binds, or ''."""
    if isinstance(node, DEFINITIONS):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""
