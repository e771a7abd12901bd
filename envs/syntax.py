"""Python source to syntax tree, one thread at a time.

CPython 3.11 counts the recursion depth of `ast.parse` per interpreter, not per thread, and fails
with "AST constructor recursion depth mismatch" when two threads build trees at once. Builds check
their tasks in threads, so all trees are built behind one lock.
Tests: tests/envs/test_source_text.py.
"""

import ast
import threading

from envs.source_text import BOM, encode_source

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
