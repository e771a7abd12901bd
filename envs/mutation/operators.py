"""Mutation operators: `ast` finds the site, a source-span splice changes it and nothing else.

A file is never unparsed, so comments, layout and all other lines stay as they were and betray
nothing. An operator takes a node and its source and yields splices; the example in its docstring
is executed by a test. Yields on real suites, the share of mutants that some test notices (four
PyPI projects, at most 16 sites each): cmp_negate 93 %, drop_not 92, except_narrow 92, if_negate 88,
api_swap 88, bool_const_flip 85, slice_off_by_one 83, int_off_by_one 81, stmt_delete_call 81,
return_none 75, if_drop_guard 75, var_misuse 75, default_change 71, call_arg_swap 69, operand_swap
69, stmt_delete_assign 69, arith_swap 62, bool_swap 62, break_continue 56, cmp_boundary 50.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from envs.mutation import expressions, statements
from envs.mutation.patches import apply_edits, make_edits
from envs.mutation.spans import Source, Splice, walk_bodies
from envs.syntax import parse_python

Operator = Callable[[ast.AST, Source], Iterator[Splice]]

SYNTHETIC_OPERATORS: tuple[Operator, ...] = (  # fixed: one more would change all synthetic tasks
    expressions.cmp_negate,
    expressions.if_negate,
    expressions.bool_swap,
    expressions.api_swap,
    expressions.int_off_by_one,
    expressions.arith_swap,
    expressions.operand_swap,
    statements.return_none,
)
OPERATORS: tuple[Operator, ...] = (
    *SYNTHETIC_OPERATORS,
    expressions.cmp_boundary,
    expressions.drop_not,
    expressions.bool_const_flip,
    expressions.slice_off_by_one,
    expressions.call_arg_swap,
    statements.stmt_delete_call,
    statements.stmt_delete_assign,
    statements.if_drop_guard,
    statements.break_continue,
    statements.except_narrow,
    statements.default_change,
    statements.var_misuse,
)


@dataclass(frozen=True)
class Mutation:
    """One possible bug: put `replacement` in place of the characters `[start, end)` of `path`.

    Attributes:
        function: Function or method ('Class.method') at the top that holds the site.
        line: First line of the span, 1-based.
    """

    operator: str
    path: str
    start: int
    end: int
    replacement: str
    function: str
    line: int


def list_mutations(
    text: str, *, path: str = "", operators: Sequence[Operator] = OPERATORS
) -> list[Mutation]:
    """List all mutations inside functions of a file, in a fixed order (operator, then position).

    Code outside functions, decorators and annotations are left alone: they break an import. Where
    two operators make the same change, or two places give the same text (either of two equal
    statements that is deleted), it is the first one's. Changes that no replacement of lines
    takes back byte for byte are left out, as there may be where line ends are mixed.

    Raises:
        SyntaxError: `text` is not Python.
    """
    source, nodes = Source(text), list(_nodes(parse_python(text)))
    found: dict[Splice, Mutation] = {}
    for operator in operators:
        changes = sorted(
            (_apart(text, splice), function)
            for function, node in nodes
            for splice in operator(node, source)
        )
        for splice, function in changes:
            line = source.line_of(splice[0])
            change = Mutation(operator.__name__, path, *splice, function, line)
            found.setdefault(_reduce(text, splice), change)
    if "\r" in text or not text.endswith("\n"):  # with other line ends an edit may not restore it
        return [mutation for mutation in found.values() if _can_be_repaired(text, mutation)]
    return list(found.values())


def apply(text: str, mutation: Mutation) -> str:
    """Return `text` with the one span changed."""
    return text[: mutation.start] + mutation.replacement + text[mutation.end :]


def list_functions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield top-level functions and the methods of top-level classes, then each class, by name."""
    for top in tree.body:
        if isinstance(top, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield top.name, top
        elif isinstance(top, ast.ClassDef):
            for node in top.body:
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield f"{top.name}.{node.name}", node
            yield top.name, top  # functions in nested classes and under conditions


def _nodes(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Walk the bodies of all functions, each node once, with the name that `functions` gives it."""
    seen: set[int] = set()
    for name, unit in list_functions(tree):
        for outer in ast.walk(unit):
            if not isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for node in walk_bodies(outer):
                if id(node) not in seen:
                    seen.add(id(node))
                    yield name, node


def _apart(text: str, splice: Splice) -> Splice:
    """Keep words apart: `return(a, b)` must not become `returnNone`."""
    start, end, new = splice
    before = " " if _is_word(text[start - 1 : start]) and _is_word(new[:1]) else ""
    after = " " if _is_word(text[end : end + 1]) and _is_word(new[-1:]) else ""
    return start, end, before + new + after


def _can_be_repaired(text: str, mutation: Mutation) -> bool:
    """Tell whether replacing lines gives all bytes back; a line that is put in has no own end."""
    before, after = {mutation.path: apply(text, mutation)}, {mutation.path: text}
    return apply_edits(before, make_edits(before, after)) == after


def _reduce(text: str, splice: Splice) -> Splice:
    """Return the splice that all splices with the same result have in common.

    That is the least one, and of an insertion or a deletion the first place where it may stand.
    """
    start, end, new = splice
    while start < end and new and text[start] == new[0]:
        start, new = start + 1, new[1:]
    while start < end and new and text[end - 1] == new[-1]:
        end, new = end - 1, new[:-1]
    while start == end and new and start and text[start - 1] == new[-1]:
        start, end, new = start - 1, end - 1, new[-1] + new[:-1]
    while start < end and not new and start and text[start - 1] == text[end - 1]:
        start, end = start - 1, end - 1
    return start, end, new


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
