"""Mutation operators on expressions: another operator, number, order or name of a call.

Tests: tests/envs/mutation/test_operators.py.
"""

import ast
import itertools
import re
from collections.abc import Iterator

from envs.mutation.spans import Source, Splice, write_number
from envs.syntax import parse_python

_NEGATED = {
    ast.Lt: ("<", ">="),
    ast.LtE: ("<=", ">"),
    ast.Gt: (">", "<="),
    ast.GtE: (">=", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}
_BOUNDARY = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "%"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
}
_API_PAIRS = (
    ("min", "max"),
    ("any", "all"),
    ("append", "extend"),
    ("keys", "values"),
    ("startswith", "endswith"),
    ("lstrip", "rstrip"),
    ("filter", "filterfalse"),
    ("takewhile", "dropwhile"),
    ("first", "last"),
    ("isinstance", "issubclass"),
)
_ALIKE_OR_LOST = ("min", "max", "isinstance", "issubclass")  # swapped: no bug, or always an error
_API = dict(_API_PAIRS) | {right: left for left, right in _API_PAIRS}
_NOT_COMMUTATIVE = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)


def cmp_negate(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Negate a comparison: `if a < b:` becomes `if a >= b:`."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        old, new = _NEGATED[type(node.ops[0])]
        if place := source.between(node.left, node.comparators[0], old):
            yield (*place, new)


def cmp_boundary(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Move the end of a range: `a < b` becomes `a <= b`."""
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            if type(operator) in _BOUNDARY:
                old, new = _BOUNDARY[type(operator)]
                if place := source.between(left, right, old):
                    yield (*place, new)


def if_negate(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Negate a condition that is no comparison: `if seen:` becomes `if not seen:`, or back."""
    if not isinstance(node, (ast.If, ast.IfExp)) or isinstance(node.test, ast.Compare):
        return
    start, end = source.span(node.test)
    if isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not):
        yield from drop_not(node.test, source)
    elif isinstance(node.test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
        yield start, start, "not "
    else:
        yield start, end, f"not ({source.text[start:end]})"


def drop_not(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Leave a negation out: `return not seen` becomes `return seen`."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        start = source.span(node)[0]
        word = re.compile(r"not\s*").match(source.text, start)  # a bracket may follow: keep it
        assert word is not None
        yield start, word.end(), ""


def bool_const_flip(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Flip a truth value: `seen = True` becomes `seen = False`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield (*source.span(node), str(not node.value))


def bool_swap(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Swap a connective: `a and b` becomes `a or b` and the reverse."""
    if isinstance(node, ast.BoolOp) and len(node.values) == 2:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        if place := source.between(node.values[0], node.values[1], rf"\b{old}\b"):
            yield (*place, new)


def api_swap(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Call the sibling of a function or method: `min(a, b)` becomes `max(a, b)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if name in _API:
            end = source.span(node.func)[1]
            yield end - len(name), end, _API[name]


def int_off_by_one(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Move an integer by one: `range(1, n)` becomes `range(2, n)` or `range(0, n)`."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        start, end = source.span(node)
        if source.text[start:end] == write_number(node.value):
            yield start, end, str(node.value + 1)
            if node.value > 0:
                yield start, end, str(node.value - 1)


def slice_off_by_one(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Begin a slice late or end it early: `a[:n]` becomes `a[:n - 1]`, `a[n + 1:]` `a[n:]`.

    Bounds that are plain numbers are left to `int_off_by_one`.
    """
    if not isinstance(node, ast.Slice):
        return
    for bound, change in ((node.lower, " + 1"), (node.upper, " - 1")):
        if isinstance(bound, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
            end = source.span(bound)[1]
            yield end, end, change
        elif isinstance(bound, ast.BinOp) and isinstance(bound.op, (ast.Add, ast.Sub)):
            start, end = source.span(bound.left)[1], source.span(bound)[1]
            if re.fullmatch(r"\s*[+-]\s*1", source.text[start:end]):
                yield start, end, ""


def arith_swap(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Use another arithmetic operator: `a + b` becomes `a - b`, `n -= 1` becomes `n += 1`."""
    if isinstance(node, ast.BinOp):
        left, right, equals = node.left, node.right, ""
    elif isinstance(node, ast.AugAssign):
        left, right, equals = node.target, node.value, "="
    else:
        return
    is_text = any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and not isinstance(side.value, (int, float)))
        for side in (left, right)
    )
    if type(node.op) in _ARITHMETIC and not is_text:
        old, new = _ARITHMETIC[type(node.op)]
        if place := source.between(left, right, re.escape(old + equals)):
            yield (*place, new + equals)


def operand_swap(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Swap the operands where order matters: `a - b` becomes `b - a`."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, _NOT_COMMUTATIVE):
        return
    place = source.between(node.left, node.right, re.escape(_ARITHMETIC[type(node.op)][0]))
    if place is None:
        return
    start, end = source.span(node)
    left, right = source.text[start : place[0]], source.text[place[1] : end]
    pad = left[len(left.rstrip()) :]
    swapped = f"{right.strip()}{pad}{source.text[slice(*place)]}{pad}{left.rstrip()}"
    wanted = ast.BinOp(left=node.right, op=node.op, right=node.left)
    if not set("\r\n") & set(swapped) and _same(swapped, wanted) and right.strip() != left.rstrip():
        yield start, end, swapped


def call_arg_swap(node: ast.AST, source: Source) -> Iterator[Splice]:
    """Pass two neighbouring arguments in the wrong order: `f(a, b)` becomes `f(b, a)`."""
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name) and node.func.id in _ALIKE_OR_LOST:
        return
    for left, right in itertools.pairwise(node.args):
        if isinstance(left, ast.Starred) or isinstance(right, ast.Starred):
            continue
        (start, middle), (resume, end) = source.span(left), source.span(right)
        first, gap, second = (
            source.text[slice(*part)] for part in ((start, middle), (middle, resume), (resume, end))
        )
        if "#" not in first + second and ast.dump(left) != ast.dump(right):
            yield start, end, second + gap + first


def _same(text: str, wanted: ast.expr) -> bool:
    try:
        (found,) = parse_python(f"({text}\n)").body
    except (SyntaxError, ValueError):
        return False
    return isinstance(found, ast.Expr) and ast.dump(found.value) == ast.dump(wanted)
