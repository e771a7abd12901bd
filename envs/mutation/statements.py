"""Mutation operators on statements and names: one left out, another way on, another variable.

Tests: tests/envs/mutation/test_operators.py.
"""

import ast
import itertools
from collections.abc import Iterator, Sequence

from envs.mutation.spans import Source, Splice, list_children, write_number

Function = ast.FunctionDef | ast.AsyncFunctionDef

# What catches less: a subclass, or a neighbour of a class that has no subclass to speak of.
_NARROWER = {
    "BaseException": "Exception",
    "Exception": "ValueError",
    "LookupError": "KeyError",
    "KeyError": "IndexError",
    "IndexError": "KeyError",
    "ArithmeticError": "ZeroDivisionError",
    "ZeroDivisionError": "OverflowError",
    "OverflowError": "ZeroDivisionError",
    "OSError": "FileNotFoundError",
    "FileNotFoundError": "PermissionError",
    "ImportError": "ModuleNotFoundError",
    "RuntimeError": "RecursionError",
    "UnicodeError": "UnicodeDecodeError",
    "UnicodeDecodeError": "UnicodeEncodeError",
    "UnicodeEncodeError": "UnicodeDecodeError",
    "ValueError": "TypeError",
    "TypeError": "ValueError",
    "AttributeError": "NameError",
    "NameError": "AttributeError",
}


def return_none(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Return nothing: `return total` becomes `return None`."""
    if isinstance(node, ast.Return) and node.value is not None:
        start, end = source.span(node.value)
        is_none = isinstance(node.value, ast.Constant) and node.value.value is None
        if not is_none and node.value.lineno == node.value.end_lineno:
            yield start, end, "None"


def stmt_delete_call(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Leave out a call that was made for its effect.

        seen.sort()
        return seen

    becomes

        return seen
    """
    for statement, block in _statements(node):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            yield from _delete(statement, block, source)


def stmt_delete_assign(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Leave out an assignment.

        if a > n:
            total += a

    becomes

        if a > n:
            pass
    """
    for statement, block in _statements(node):
        if isinstance(statement, (ast.Assign, ast.AugAssign)):
            yield from _delete(statement, block, source)


def if_drop_guard(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Leave out a check that ends the work early.

        if n == 0:
            return total
        return total / n

    becomes

        return total / n
    """
    ways_out = (ast.Return, ast.Raise, ast.Continue, ast.Break)
    for statement, block in _statements(node):
        if not isinstance(statement, ast.If) or statement.orelse or len(block) == 1:
            continue
        if isinstance(statement.body[-1], ways_out):
            yield from _delete(statement, block, source)


def break_continue(node: ast.AST, source: Source) -> Iterator[Splice]:
    """End a loop instead of a turn, or a turn instead of the loop.

        for a in seen:
            if a > n:
                break

    becomes

        for a in seen:
            if a > n:
                continue
    """
    if isinstance(node, (ast.Break, ast.Continue)):
        yield (*source.span(node), "continue" if isinstance(node, ast.Break) else "break")


def except_narrow(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Catch less: one exception of a tuple is forgotten, or the class is too narrow.

        try:
            return a[n]
        except (IndexError, TypeError):
            return None

    becomes

        try:
            return a[n]
        except IndexError:
            return None
    """
    if not isinstance(node, ast.ExceptHandler) or node.type is None:
        return
    if isinstance(node.type, ast.Name) and node.type.id in _NARROWER:
        yield (*source.span(node.type), _NARROWER[node.type.id])
    elif isinstance(node.type, ast.Tuple):
        spans = [source.span(member) for member in node.type.elts]
        start, end = source.span(node.type)
        if "#" in source.text[start:end]:
            return
        if len(spans) == 2:
            for kept in reversed(spans):
                yield start, end, source.text[slice(*kept)]
        elif len(spans) > 2:
            cuts = [(before, after) for (_, before), (_, after) in itertools.pairwise(spans)]
            for cut in ((spans[0][0], spans[1][0]), *cuts):
                if not set("()") & set(source.text[slice(*cut)]):
                    yield (*cut, "")


def default_change(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Give a parameter another default, if that is a number or a truth value.

        def g(a, n=1):
            return a + n

    becomes

        def g(a, n=2):
            return a + n
    """
    if isinstance(node, Function):
        for value in (*node.args.defaults, *node.args.kw_defaults):
            if isinstance(value, ast.Constant) and isinstance(value.value, (bool, int)):
                start, end = source.span(value)
                if source.text[start:end] == write_number(value.value):
                    is_truth = isinstance(value.value, bool)
                    yield start, end, str(not value.value if is_truth else value.value + 1)


def var_misuse(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Use the wrong variable: of the others, the one that was last bound on an earlier line.

        def g(a, b):
            return a

    becomes

        def g(a, b):
            return b
    """
    if not isinstance(node, Function):
        return
    nodes = [inner for statement in node.body for inner in _own_nodes(statement)]
    called = {id(inner.func) for inner in nodes if isinstance(inner, ast.Call)}
    names = [inner for inner in nodes if isinstance(inner, ast.Name) and id(inner) not in called]
    bound = _bindings(node, nodes)
    known = {name for _, name in bound}
    for name in names:
        if isinstance(name.ctx, ast.Load) and name.id in known:
            others = [other for line, other in bound if line < name.lineno and other != name.id]
            if others:
                yield (*source.span(name), others[-1])


def _bindings(function: Function, nodes: Sequence[ast.AST]) -> list[tuple[int, str]]:
    """Return parameters (but for self and cls) and assigned names by the line that binds them."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    loops = [node.target for node in nodes if isinstance(node, ast.comprehension)]
    inside = {id(name) for target in loops for name in ast.walk(target)}
    assigned = [
        (node.lineno, node.id)
        for node in nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inside
    ]
    first = [(function.lineno, parameter.arg) for parameter in parameters]
    found = first + sorted(assigned, key=lambda pair: pair[0])
    return [(line, name) for line, name in found if name not in ("self", "cls", "_")]


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk like `walk_bodies`, but stay in the scope of the function."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
        return
    yield node
    for child in list_children(node):
        yield from _own_nodes(child)


def _statements(node: ast.AST) -> Iterator[tuple[ast.stmt, list[ast.stmt]]]:
    """Yield the statements that a statement, handler or case holds, each with its block."""
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):  # the body of a lambda or a conditional expression is none
            yield from ((statement, block) for statement in block)


def _delete(statement: ast.stmt, block: list[ast.stmt], source: Source) -> Iterator[Splice]:
    """Delete a statement with its lines, which no comment or other statement may share.

    The only one of its block becomes `pass`.
    """
    text, (start, end) = source.text, source.span(statement)
    if "#" in text[start:end]:
        return
    if len(block) == 1:
        yield start, end, "pass"
        return
    first, last = source.line_span(statement.lineno)[0], source.line_span(source.line_of(end))[1]
    above = text[source.line_span(max(1, statement.lineno - 1))[0] : first].rstrip("\r\n")
    joined = above.endswith("\\")  # to the line before
    if not joined and not (text[first:start] + text[end:last]).strip():
        if text[last - 1] not in "\r\n":  # no more does the text end with a line end then
            first = source.line_span(statement.lineno - 1)[0] + len(above)
        yield first, last, ""
