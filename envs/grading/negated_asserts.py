"""Makes a copy of a suite that must fail: equalities that tests assert are asked of another value.

    changed, must_fail = negate_asserts({"test_a.py": "def test_a(): assert f(1) == 2"},
                                 ["test_a.py::test_a"])

The copy asks whether `f(1)` is some other number. Only assertions on the top level of a test
function count, since every test that passes reaches them. Names and parameters stay.
Tests: tests/envs/grading/test_bwrap_runner.py.
"""

import ast
import secrets
from collections.abc import Sequence

from envs.syntax import parse_python

# Says whether either side equals a value that differs from the other side, which no plain one does.
_HELPER = """
def NAME(left, right):
    def other(value):
        kind = type(value)
        if kind in (int, float):
            return value + OFFSET if value + OFFSET != value else 0
        if kind in (str, bytes, list, tuple):
            return value + kind(b"x" if kind is bytes else "x")
        return not value if kind is bool else {**value, NAME: 0} if kind is dict else object()
    return left == other(right) or other(left) == right
"""


def negate_asserts(files: dict[str, str], ids: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the changed files, and those of `ids` that must fail with them."""
    changed: dict[str, str] = {}
    must_fail: list[str] = []
    for path in sorted({test_id.partition("::")[0] for test_id in ids}):
        try:
            tree = parse_python(files[path])
        except (KeyError, SyntaxError):
            continue
        name = f"_{secrets.token_hex(8)}"
        names = set(_negate_body(tree.body, name))
        after = sum(_is_leading(statement) for statement in tree.body)
        helper = _HELPER.replace("NAME", name).replace(
            "OFFSET", str(1000 + secrets.randbelow(10**6))
        )
        tree.body[after:after] = ast.parse(helper).body
        try:
            changed[path] = ast.unparse(ast.fix_missing_locations(tree))
        except (ValueError, RecursionError):  # an integer too long to write, or too deep a tree
            continue
        for test_id in ids:
            file, _, inside = test_id.partition("::")
            if file == path and inside.partition("[")[0] in names:
                must_fail.append(test_id)
    return changed, must_fail


def _negate_body(body: list[ast.stmt], name: str) -> list[str]:
    """Change the functions in `body`; returns the names of those that now fail."""
    found = []
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            found += [f"{statement.name}::{inner}" for inner in _negate_body(statement.body, name)]
        elif isinstance(statement, ast.FunctionDef) and _negate_function(statement, name):
            found.append(statement.name)
    return found


def _negate_function(function: ast.FunctionDef, name: str) -> bool:
    done = False
    for index, statement in enumerate(function.body):
        if isinstance(statement, (ast.Return, ast.Raise)):
            break
        sides = _asserted_sides(statement)
        if sides:
            asked = ast.Call(ast.Name(name, ast.Load()), list(sides), [])
            function.body[index] = ast.copy_location(ast.Assert(asked), statement)
            done = True
    return done


def _asserted_sides(statement: ast.stmt) -> tuple[ast.expr, ...]:
    """Return a and b of `assert a == b` or `self.assertEqual(a, b)`, () of anything else."""
    if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
        if [type(operator) for operator in statement.test.ops] == [ast.Eq]:
            return statement.test.left, *statement.test.comparators
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        if isinstance(called, ast.Attribute) and called.attr == "assertEqual":
            return tuple(statement.value.args[:2]) if len(statement.value.args) >= 2 else ()
    return ()


def _is_leading(statement: ast.stmt) -> bool:
    """Tell whether nothing may stand before it: the docstring, imports from the future."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
