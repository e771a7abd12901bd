"""Python source to syntax tree, one thread at a time.

CPython 3.11 counts the recursion depth of `ast.parse` per interpreter, not per thread, and fails
with "AST constructor recursion depth mismatch" when two threads build trees at once. Episodes run
their tools in threads, so all trees are built behind one lock.
"""

import ast
import threading

_ONE_AT_A_TIME = threading.Lock()


def parse_python(text: str) -> ast.Module:
    """Return the tree of `text`.

    Raises:
        SyntaxError: It is not Python, is nested too deep, or holds what no source may.
    """
    with _ONE_AT_A_TIME:
        try:
            return ast.parse(text)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error) or type(error).__name__) from None
