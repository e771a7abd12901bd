"""Makes a copy of a suite that must fail: what tests assert is asked of other values.

    changed, must_fail = negate_asserts({"test_a.py": "def test_a(): assert f(1) == 2"},
                                 ["test_a.py::test_a"])

In the copy of a test function each assertion asks the same of what differs by a unit, a field or an
element (`envs/grading/asked_otherwise.py`, which is one more file of the copy), and its last line
fails unless something of that held. So a test fails whatever it asserts, and passes only where
passes are forged, or where what it compares says yes to everything. Names and parameters stay.

Not covered: assertions in functions that tests call, and in functions inside of tests.
Tests: tests/envs/grading/test_negated_asserts.py.
"""

import ast
import copy
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from envs.syntax import parse_python

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_MOST_TWISTED = 4  # constants of one assertion
_FORMS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}
_METHODS = {
    "assertEqual": "==",
    "assertListEqual": "==",
    "assertTupleEqual": "==",
    "assertSetEqual": "==",
    "assertDictEqual": "==",
    "assertSequenceEqual": "==",
    "assertMultiLineEqual": "==",
    "assertCountEqual": "==",
    "assertNotEqual": "!=",
    "assertAlmostEqual": "~",
    "assertLess": "<",
    "assertLessEqual": "<=",
    "assertGreater": ">",
    "assertGreaterEqual": ">=",
    "assertIn": "in",
    "assertNotIn": "not in",
}

_RAISING = ("raises", "assertRaises", "assertRaisesRegex")


def negate_asserts(files: dict[str, str], ids: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the changed files with one more, and those of `ids` that must fail with them."""
    changed: dict[str, str] = {}
    must_fail: list[str] = []
    name = f"_{secrets.token_hex(8)}"
    for path in sorted({test_id.partition("::")[0] for test_id in ids}):
        try:
            tree = parse_python(files[path])
            names = set(_negate_body(tree.body, name))
            after = sum(_is_leading(statement) for statement in tree.body)
            tree.body[after:after] = ast.parse(f"from {name} import Checks as {name}").body
            changed[path] = ast.unparse(ast.fix_missing_locations(tree))
        except (KeyError, SyntaxError, ValueError, RecursionError):
            continue  # none there, an integer too long to write, or too deep a tree
        for test_id in ids:
            file, _, inside = test_id.partition("::")
            if file == path and inside.partition("[")[0] in names:
                must_fail.append(test_id)
    if changed:
        changed[f"{name}.py"] = Path(__file__).with_name("asked_otherwise.py").read_text("utf-8")
    return changed, must_fail


def _negate_body(body: list[ast.stmt], name: str) -> Iterator[str]:
    """Change the functions in `body`; yields the names of those that now fail."""
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            for inner in _negate_body(statement.body, name):
                yield f"{statement.name}::{inner}"
        elif isinstance(statement, _Function) and _negate_function(statement, name):
            yield statement.name


def _negate_function(function: _Function, name: str) -> bool:
    """Change a function unless it is a generator, or no test; False then."""
    own = list(_walk_own(function.body))
    is_generator = any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in own)
    is_asserting = any(
        isinstance(each, (ast.Assert, ast.With, ast.AsyncWith)) or _method_of(each) for each in own
    )
    if is_generator or not is_asserting:
        return False
    checks = f"{name}_checks"
    body = [each for one in function.body for each in _ask_otherwise(one, checks)]
    first = int(bool(body) and _is_text(body[0]))
    last = next((at for at, one in enumerate(body) if isinstance(one, ast.Return)), len(body))
    body.insert(last, _call_checks(checks, "end", []))
    body[first:first] = ast.parse(f"{checks} = {name}()").body
    function.body = body
    return True


def _walk_own(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a body that are not those of functions or classes inside of it."""
    for node in body:
        yield node
        if not isinstance(node, (_Function, ast.ClassDef, ast.Lambda)):
            yield from _walk_own(list(ast.iter_child_nodes(node)))


def _ask_otherwise(statement: ast.stmt, checks: str) -> list[ast.stmt]:
    """Return what stands in the place of a statement of a test."""
    if isinstance(statement, ast.Assert):
        return [ast.copy_location(each, statement) for each in _ask(statement.test, checks)]
    if called := _method_of(statement):
        return [ast.copy_location(_ask_method(called, checks), statement)]
    if isinstance(statement, (_Function, ast.ClassDef)):
        return [statement]
    for name in ("body", "orelse", "finalbody"):
        inner = getattr(statement, name, None)
        if inner:
            setattr(statement, name, [new for one in inner for new in _ask_otherwise(one, checks)])
    for inner in [*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())]:
        inner.body = [new for one in inner.body for new in _ask_otherwise(one, checks)]
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        return [statement, *_ask_raised(statement, checks)]
    return [statement]


def _ask(test: ast.expr, checks: str, *, negated: bool = False) -> list[ast.stmt]:
    """Return what is asked instead of an expression that was to be true, or false."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _ask(test.operand, checks, negated=not negated)
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) and not negated:
        return [each for value in test.values for each in _ask(value, checks)]
    if isinstance(test, ast.Compare) and (len(test.ops) == 1 or not negated):
        return [_ask_comparison(test, checks, negated=negated)]
    if isinstance(test, ast.Call) and not negated and len(test.args) == 2:
        if _name_of(test) == "isinstance":
            return [_call_checks(checks, "belongs", test.args)]
        if _name_of(test) == "isclose":
            return [_call_checks(checks, "close", [test.func, *test.args], test.keywords)]
    return [_call_checks(checks, "note", [test])]


def _ask_comparison(test: ast.Compare, checks: str, *, negated: bool) -> ast.stmt:
    values, forms = [test.left, *test.comparators], [_FORMS[type(each)] for each in test.ops]
    if forms in (["<"], ["<="]) and not negated and (sides := _sides_of_difference(test.left)):
        return _call_checks(checks, "near", [*sides, test.comparators[0]])
    if forms == ["=="] and _twist(values[0]) and not _twist(values[1]):
        values.reverse()  # what is expected stands last
    arguments: list[ast.expr] = [
        ast.List(values, ast.Load()),
        ast.List([ast.Constant(form) for form in forms], ast.Load()),
    ]
    keywords = [ast.keyword("others", ast.List(_twist(values[-1]), ast.Load()))]
    keywords += [ast.keyword("negated", ast.Constant(value=True))] if negated else []
    return _call_checks(checks, "compare", arguments, keywords)


def _sides_of_difference(value: ast.expr) -> list[ast.expr]:
    """Return a and b of `abs(a - b)`."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and len(value.args) == 1:
        difference = value.args[0]
        if value.func.id == "abs" and isinstance(difference, ast.BinOp):
            is_difference = isinstance(difference.op, ast.Sub)
            return [difference.left, difference.right] if is_difference else []
    return []


def _method_of(statement: ast.AST) -> ast.Call | None:
    """Return the call of a method of unittest that compares two values."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return None
    called = statement.value
    if not isinstance(called.func, ast.Attribute) or called.func.attr not in _METHODS:
        return None
    is_plain = not any(isinstance(each, ast.Starred) for each in called.args)
    return called if is_plain and len(called.args) >= 2 else None


def _ask_method(called: ast.Call, checks: str) -> ast.stmt:
    assert isinstance(called.func, ast.Attribute)
    form = ast.Constant(_METHODS[called.func.attr])
    others = ast.keyword("others", ast.List(_twist(called.args[1]), ast.Load()))
    arguments = [called.func, form, *called.args]
    return _call_checks(checks, "method", arguments, [*called.keywords, others])


def _ask_raised(statement: ast.With | ast.AsyncWith, checks: str) -> list[ast.stmt]:
    """Return what asks about the exceptions that a statement expects; names them if need be."""
    found: list[ast.stmt] = []
    for item in statement.items:
        called = item.context_expr
        if not isinstance(called, ast.Call) or _name_of(called) not in _RAISING:
            continue
        if item.optional_vars is None:
            item.optional_vars = ast.Name(f"{checks}_caught", ast.Store())
        if isinstance(item.optional_vars, ast.Name) and called.args:
            caught = ast.Name(item.optional_vars.id, ast.Load())
            found.append(_call_checks(checks, "raised", [caught, called.args[0]]))
    return found


def _twist(value: ast.expr) -> list[ast.expr]:
    """Return functions that make a written value, or a made object, with one constant changed."""
    nodes = list(ast.walk(value))
    unfit = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.JoinedStr, ast.Lambda)
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    if any(isinstance(node, unfit) for node in nodes) or not all(map(_makes_object, calls)):
        return []
    kinds = (int, float, str, bytes)
    places = [
        at
        for at, node in enumerate(nodes)
        if isinstance(node, ast.Constant) and type(node.value) in kinds
    ]
    found: list[ast.expr] = []
    for at in places[:_MOST_TWISTED]:
        twisted = copy.deepcopy(value)
        constant = list(ast.walk(twisted))[at]
        assert isinstance(constant, ast.Constant)
        constant.value = _change(constant.value)
        nothing = ast.arguments([], [], None, [], [], None, [])
        found.append(ast.Lambda(nothing, twisted))
    return found


def _makes_object(called: ast.Call) -> bool:
    """Tell by its name whether a class is called."""
    return _name_of(called)[:1].isupper()


def _name_of(called: ast.Call) -> str:
    """Return the name by which something is called, without what stands before a point."""
    if isinstance(called.func, ast.Attribute):
        return called.func.attr
    return called.func.id if isinstance(called.func, ast.Name) else ""


def _change(value: object) -> str | bytes | int | float:
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, bytes):
        return value + b"x"
    assert isinstance(value, int | float)
    return value + 1 if value + 1 != value else 0


def _call_checks(
    checks: str,
    method: str,
    arguments: Sequence[ast.expr],
    keywords: Sequence[ast.keyword] = (),
) -> ast.stmt:
    asked = ast.Attribute(ast.Name(checks, ast.Load()), method, ast.Load())
    return ast.Expr(ast.Call(asked, list(arguments), list(keywords)))


def _is_text(statement: ast.stmt) -> bool:
    """Tell whether it is a docstring."""
    is_constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_constant and isinstance(statement.value.value, str)  # type: ignore[attr-defined]


def _is_leading(statement: ast.stmt) -> bool:
    """Tell whether nothing may stand before it: the docstring, imports from the future."""
    is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
    return is_future or _is_text(statement)
