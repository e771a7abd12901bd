"""Where a node of the tree stands in the text: the characters that a mutation may replace.

Tests: tests/envs/mutation/test_operators.py.
"""

import ast
import re
from bisect import bisect_right
from collections.abc import Iterator

from envs.plain_text import MAX_INT_BITS
from envs.source_text import bom_of, source_lines

Splice = tuple[int, int, str]  # character offsets [start, end) and the new text


class Source:
    """A parsed file that gives nodes' character offsets (`ast` itself counts UTF-8 bytes)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = source_lines(text, keepends=True)
        self._starts = [len(bom_of(text))]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """Return the character offset of a 1-based line and a column in bytes."""
        text = self.lines[line - 1]
        return self._starts[line - 1] + (
            column if text.isascii() else len(text.encode()[:column].decode())
        )

    def line_of(self, offset: int) -> int:
        """Return the 1-based line that holds a character, or behind which the text ends."""
        return max(1, min(bisect_right(self._starts, offset), len(self.lines)))

    def line_span(self, line: int) -> tuple[int, int]:
        """Return the character offsets `[start, end)` of a 1-based line with its end."""
        return self._starts[line - 1], self._starts[line]

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the character offsets `[start, end)` of a node."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.offset(node.lineno, node.col_offset)
        return start, self.offset(node.end_lineno, node.end_col_offset)

    def between(self, left: ast.expr, right: ast.expr, pattern: str) -> tuple[int, int] | None:
        """Find an operator in the gap of two operands, which may also hold brackets."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.text[start:end]
        match = None if "#" in gap else re.search(pattern, gap)
        return None if match is None else (start + match.start(), start + match.end())


def write_number(value: int) -> str:
    """Return a number's usual digits; '' for one of thousands of them, which Python writes not."""
    return str(value) if value.bit_length() < MAX_INT_BITS else ""


def list_children(node: ast.AST) -> list[ast.AST]:
    """Return the children in which bugs may be: no decorator, annotation, signature or f-string."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return list(node.body)
    if isinstance(node, ast.AnnAssign):
        return [] if node.value is None else [node.value]
    if isinstance(node, ast.JoinedStr):
        return []  # before Python 3.12 their parts have no usable offsets
    return list(ast.iter_child_nodes(node))


def walk_bodies(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a node and all `children`, outer ones first."""
    yield node
    for child in list_children(node):
        yield from walk_bodies(child)
