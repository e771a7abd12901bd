"""HumanEval-style programs, one on each line: right, wrong, and the tests that tell them apart.

Fields: `prompt`, `canonical_solution`, `buggy` or `buggy_solution` (HumanEvalPack), `test`,
`entry_point`, and `task_id` if there is one. A solution is what follows the prompt, or a program of
its own that defines the entry point. Each becomes a module and a file of tests, which need no
repository.

`test` has one of two forms: `check(candidate)` as in HumanEval, of which each assertion becomes a
test function behind the statements before it, or test functions for pytest. The module is called
`solution`, unless the tests import the entry point from another one. What else of the program tests
use is imported as well.

All are graded by pytest: it takes both forms, tolerances and loops as they stand. The grader that
compares results outside of the candidate's process would be stronger, but takes calls with plain
arguments and one expected value only, by exact type, which assertions do not promise.
"""

import ast
import builtins
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel, model_validator

from envs.importers.instance import Instance, RejectError, Trees
from envs.source_text import source_lines
from envs.syntax import DEFINITIONS, FUNCTIONS, first_line, last_line, parse_python

MODULE = "solution"
_CHECK = "check"


class _Row(BaseModel):
    """What is read of a program; other fields are ignored."""

    prompt: str
    canonical_solution: str
    buggy: str
    test: str
    entry_point: str
    task_id: str | int = ""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, row: dict[str, Any]) -> dict[str, Any]:
        return row if "buggy" in row else row | {"buggy": row.get("buggy_solution")}


def read_program(row: dict[str, Any]) -> Instance:
    """Return an instance.

    Raises:
        ValueError: It lacks a field, or one is of another type.
    """
    read = _Row.model_validate(row)
    return Instance(
        name=str(read.task_id) or read.entry_point,
        project=MODULE,
        origin=MODULE,
        statement="" if _is_code(read.prompt) else read.prompt.strip(),
        plant=lambda _: _plant(read),
        needs_repository=False,
    )


def _plant(row: _Row) -> Trees:
    right = _join(row, row.canonical_solution, name="canonical_solution")
    wrong = _join(row, row.buggy, name="buggy")
    try:
        tree = parse_python(row.test)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise RejectError(f"test is no Python ({error})") from None
    module = _find_module(tree, row.entry_point)
    path = f"{module.replace('.', '/')}.py"
    test = f"test_{module.rpartition('.')[2]}.py"
    tests = _write_tests(row, tree, program=right, module=module)
    pristine = {path: right, test: tests}
    return Trees(pristine, pristine | {path: wrong}, frozenset([test]))


def _join(row: _Row, solution: str, *, name: str) -> str:
    """Return a whole program: a solution alone if it defines the entry point, else the prompt's."""
    for text in (solution, row.prompt + solution):
        try:
            defined = {
                node.name for node in parse_python(text).body if isinstance(node, DEFINITIONS)
            }
        except (SyntaxError, ValueError, RecursionError):
            continue
        if row.entry_point in defined:
            return text if text.endswith("\n") else f"{text}\n"
    raise RejectError(f"{name} is no program that defines the entry point ({row.entry_point})")


def _is_code(prompt: str) -> bool:
    """Tell whether a prompt is the head of a program, rather than words about one."""
    return "def " in prompt or "class " in prompt or not prompt.strip()


def _find_module(tree: ast.Module, entry_point: str) -> str:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module or node.level:
            continue
        if any(alias.name == entry_point for alias in node.names):
            return node.module
    return MODULE


def _write_tests(row: _Row, tree: ast.Module, *, program: str, module: str) -> str:
    """Return the file of tests."""
    text = row.test
    if any(node.body[0].lineno == node.lineno for node in _find_functions(tree)):
        text = ast.unparse(tree)  # a body beside its head cannot be cut by lines
        tree = parse_python(text)
    functions = {node.name: node for node in _find_functions(tree)}
    lines = source_lines(text, keepends=True)
    check = functions.get(_CHECK)
    if any(name.startswith("test") for name in functions) or _has_test_class(tree):
        head, body = "", text
    elif check is not None and len(check.args.args) == 1:
        others = [node for node in tree.body if node is not check and not _calls_check(node)]
        candidate = check.args.args[0].arg
        head = f"{candidate} = {row.entry_point}\n" if candidate != row.entry_point else ""
        rest = "".join(_text(lines, node) for node in others)
        asserting = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, FUNCTIONS) and node is not check and _asserts(node)
        }
        body = rest + "".join(_cut_into_tests(lines, check.body, asserting))
    else:
        raise RejectError("test has neither check(candidate) nor test functions")
    imports = "".join(_import_names(tree, row, program=program, module=module))
    return f"{imports}\n{head}\n{body}" if body.endswith("\n") else f"{imports}\n{head}\n{body}\n"


def _has_test_class(tree: ast.Module) -> bool:
    """Tell whether a class has tests, whatever its name: unittest takes any."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = [each for node in classes for each in node.body if isinstance(each, FUNCTIONS)]
    return any(method.name.startswith("test") for method in methods)


def _calls_check(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == _CHECK
    )


def _find_functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in tree.body if isinstance(node, FUNCTIONS)]


def _cut_into_tests(
    lines: list[str], body: list[ast.stmt], helpers: Collection[str]
) -> Iterator[str]:
    """Yield a test function for each statement that asserts, behind those before that do not.

    Args:
        lines: Of the whole text.
        body: The statements.
        helpers: Names of functions that assert.
    """
    before: list[ast.stmt] = []
    number = 0
    for node in body:
        if isinstance(node, DEFINITIONS) or not _asserts(node, helpers):
            before.append(node)
            continue
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant):
            continue  # assert True, "This prints if ...": holds whatever the candidate does
        number += 1
        inner = "".join(_text(lines, each) for each in (*before, node))
        yield f"\n\ndef test_{number}():\n{inner}"


def _asserts(node: ast.AST, helpers: Collection[str] = ()) -> bool:
    """Tell whether a statement asserts itself or calls a function that does."""
    return any(
        isinstance(each, ast.Assert) or (isinstance(each, ast.Name) and each.id in helpers)
        for each in ast.walk(node)
    )


def _text(lines: list[str], node: ast.stmt) -> str:
    text = "".join(lines[first_line(node) - 1 : last_line(node)])
    return text if text.endswith(("\n", "\r")) else f"{text}\n"


def _import_names(tree: ast.Module, row: _Row, *, program: str, module: str) -> Iterator[str]:
    """Yield imports of the names that tests use without binding them."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    bound = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    wanted = (used | {row.entry_point}) - bound
    for node in parse_python(program).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            if names & wanted or "*" in names:
                yield f"{ast.unparse(node)}\n"
                wanted -= names
    defined = _list_defined(parse_python(program))
    if names_used := sorted(wanted & defined | ({row.entry_point} - bound)):
        yield f"from {module} import {', '.join(names_used)}\n"


def _list_defined(tree: ast.Module) -> set[str]:
    names = {node.name for node in tree.body if isinstance(node, DEFINITIONS)}
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    targets = [target for node in assigned for target in node.targets]
    names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names - set(dir(builtins))
