"""Python source to syntax tree, one thread at a time.

CPython 3.11 counts the recursion depth of `ast.parse` per interpreter, not per thread, and fails
with "AST constructor recursion depth mismatch" when two threads build trees at once. Builds check
their tasks in threads, so all trees are built behind one lock. Also here: what several rooms look
up in a tree, such as the innermost function around a line.
Tests: tests/envs/test_source_text.py.
"""

import ast
import functools
import threading

from envs.source_text import BOM, encode_source

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_ONE_AT_A_TIME = threading.Lock()


def parse_python(text: str) -> ast.Module:
    """Return the tree of `text`, as Python reads the file that holds it.

    Its lines are those of `source_lines`, its columns count UTF-8 bytes and no BOM.

    Raises:
        SyntaxError: It is not Python, is nested too deep, or holds what no source may, or what the
            encoding in its coding line lacks.
    """
    with _ONE_AT_A_TIME:
        try:
            encode_source(text)
            return ast.parse(text.removeprefix(BOM))
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error) or type(error).__name__) from None


@functools.lru_cache(maxsize=16)  # trees are large: 100 bytes and more for each of their text
def parse_shared(text: str) -> ast.Module:
    """Return the tree of a text that is asked for again and again, the same one: do not change it.

    Raises:
        SyntaxError: As `parse_python`.
    """
    return parse_python(text)


def is_python(text: str) -> bool:
    """Tell whether `parse_python` reads a text."""
    try:
        parse_python(text)
    except SyntaxError:
        return False
    return True


def find_innermost(
    tree: ast.AST, first: int, last: int, *, kinds: tuple[type[Definition], ...] = FUNCTIONS
) -> Definition | None:
    """Return the innermost function that holds the lines `first` to `last`, or None."""
    found = None
    for node in ast.walk(tree):  # outer nodes come before inner ones
        if isinstance(node, kinds) and node.lineno <= first and last <= last_line(node):
            found = node
    return found


def first_line(node: ast.stmt | ast.ExceptHandler) -> int:
    """Return the first line of a statement, 1-based, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(item.lineno for item in decorators)])


def last_line(node: ast.stmt | ast.expr | ast.ExceptHandler) -> int:
    """Return the last line of a node, 1-based."""
    return node.end_lineno or node.lineno


def find_imports(tree: ast.AST) -> set[str]:
    """Return the dotted names that a file imports, anywhere in it.

    Of `from a import b` these are `a` and `a.b`, since `b` may be a module.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found
