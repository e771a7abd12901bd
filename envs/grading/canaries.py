"""Tests that must fail, mixed into a suite so that whoever has tests pass has these pass as well.

    canaries = draw_canaries(tree, ids, count=3, like=fail_to_pass, patterns=("test",))

Where the suite has a test that compares what it gets with values that are written there, a canary
is that test once more, in the same place of the same file: in one of the two one value is another
that looks alike (`envs/grading/lookalikes.py`), both have new names, and chance decides which
stands first. Who does not know what is right can guess which is the suite's, and is wrong in three
pairs of ten (benchmarks/canaries.py). Other canaries are files of their own whose one test
compares two numbers; those can be told by that.

A canary proves something only if the test that it is like passed: with a bug, what is another may
well hold, and of tests that pass with the bug, whoever runs them sees which one fails.
Tests: tests/envs/grading/test_canaries.py.

Not covered: tests with fixtures, parameters or decorators, or that do more than call, assign and
assert, have no like; projects whose values equal others (asked of the original files,
`envs/grading/graded_suite.py`).
"""

import ast
import functools
import random
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from envs.grading.lookalikes import Known, draw_lookalike
from envs.grading.pytest_config import name_canary
from envs.syntax import parse_python

_MAX_CHARS = 400_000  # of a file in which one is looked for
_MOST_FILES = 8  # that are looked through for one run
_FEW_WORDS = ("again", "another", "both", "more", "other", "same")
_DRAW = secrets.SystemRandom()
_QUIET = (
    ast.Assert,
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Expr,
    ast.Import,
    ast.ImportFrom,
)
_WRITTEN = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.USub, ast.Load)


@dataclass(frozen=True)
class Canaries:
    """Tests that must fail, and what they change of a suite.

    Attributes:
        files: Texts of files that are changed or added.
        like: By the id of each canary that of the test that it is like, '' if it is like none.
        renamed: By the id of a test of the suite the one that it has here.
    """

    files: dict[str, str] = field(default_factory=dict)
    like: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)


NO_CANARIES = Canaries()


@dataclass(frozen=True)
class _Value:
    """Where a value is written: its line from 1, and the bytes of it from 0."""

    line: int
    start: int
    end: int


@dataclass(frozen=True)
class _Simple:
    """Lines of a test of which there can be a like, and the values that may be changed."""

    first: int
    last: int
    values: tuple[_Value, ...]


def draw_canaries(
    tree: Mapping[str, str],
    ids: Collection[str],
    *,
    count: int,
    like: Sequence[str],
    patterns: Sequence[str],
    seed: str,
) -> Canaries:
    """Return so many tests that must fail, other ones each time.

    Args:
        tree: Files of the project that no candidate has written, path to text.
        ids: All tests of the suite.
        count: How many.
        like: Tests after which they are made, where that can be: first come, the same each time.
        patterns: Of the names of test functions (`python_functions`).
        seed: A secret that says which of a pair stands first, so that it is the same again.
    """
    order = random.Random(seed)
    found = Canaries()
    edits: dict[str, list[tuple[_Simple, list[str]]]] = {}
    names = [test_id.partition("[")[0].rpartition("::")[2] for test_id in ids]
    read: set[str] = set()
    for test_id in like:
        path, _, inside = test_id.partition("::")
        if len(found.like) == count or len(read | {path}) > _MOST_FILES:
            break
        read.add(path)
        text = tree.get(path, "")
        simple, name = _find_simple(text).get(inside), inside.rpartition("::")[2]
        if simple is None or names.count(name) != 1 or len(re.findall(rf"\b{name}\b", text)) != 1:
            continue
        pair = _name_pair(name, text, names, patterns)
        other_lines = _change_one(tree, path, simple)
        if pair is None or other_lines is None:
            continue
        own, other = (f"{test_id.removesuffix(name)}{new}" for new in pair)
        lines = text.split("\n")[simple.first - 1 : simple.last]
        both = _write_pair((lines, other_lines), name, pair, order)
        edits.setdefault(path, []).append((simple, both))
        found.like[other], found.renamed[test_id] = test_id, own
    for path, made in edits.items():
        found.files[path] = _put_in(tree[path], made)
    folders = sorted({str(PurePosixPath(test_id.partition("::")[0]).parent) for test_id in ids})
    while len(found.like) < count:
        path, name = _add_plain(found.files, folders or ["."], patterns)
        found.like[f"{path}::{name}"] = ""
    return found


def order_like(fail_to_pass: Iterable[str], pass_to_pass: Iterable[str]) -> list[str]:
    """Return the tests after which canaries of a task are made, always in the same order.

    Those come first that only a repair makes pass: whoever has them pass without one cannot tell
    what is right. Of tests with parameters there is no like.
    """
    found: list[str] = []
    for ids in (fail_to_pass, pass_to_pass):
        plain = sorted(test_id for test_id in ids if "[" not in test_id)
        random.Random(len(plain)).shuffle(plain)
        found += plain
    return found


def _add_plain(
    files: dict[str, str], folders: Sequence[str], patterns: Sequence[str]
) -> tuple[str, str]:
    """Add a file with one test that fails, named like any other; returns its path and the name."""
    path = str(PurePosixPath(_DRAW.choice(folders)) / f"test_{_word()}.py")
    name = name_canary(patterns, _word())
    left, right = secrets.randbelow(1000), secrets.randbelow(1000) + 1000
    files[path] = f"def {name}():\n    assert {left} == {right}\n"
    return path, name


def _word() -> str:
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(10))


def _name_pair(
    name: str, text: str, names: Sequence[str], patterns: Sequence[str]
) -> tuple[str, str] | None:
    """Return two new names that are built alike, of words of the suite's own."""
    words = {word for each in names for word in each.split("_")[1:] if word.isidentifier()}
    made = [f"{name}_{word}" for word in sorted({*words, *_FEW_WORDS})]
    fit = [each for each in made if each not in text and each not in names]
    fit = [each for each in fit if any(_matches(each, pattern) for pattern in patterns)]
    if len(fit) < 2 or not name.startswith("test"):
        return None
    own, other = _DRAW.sample(fit, 2)
    return own, other


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern) or fnmatchcase(name, pattern)


def _change_one(tree: Mapping[str, str], path: str, simple: _Simple) -> list[str] | None:
    """Return the lines of a test with another value in one place, None if there is no such."""
    text = tree[path]
    lines = text.split("\n")
    others = [tree[other] for other in sorted(tree) if other != path]
    for strictly in (True, False):
        for each in _DRAW.sample(simple.values, len(simple.values)):
            line = lines[each.line - 1].encode("utf-8")
            before, after = (
                part.decode("utf-8") for part in (line[: each.start], line[each.end :])
            )
            written = line[each.start : each.end].decode("utf-8")
            test = lines[simple.first - 1 : simple.last]
            test[each.line - simple.first] = f"{before} {after}"
            known = Known("\n".join(test), text, others)
            new = draw_lookalike(written, known, strictly=strictly)
            if new is not None:
                test[each.line - simple.first] = f"{before}{new}{after}"
                return test
    return None


def _write_pair(
    halves: tuple[list[str], list[str]], name: str, pair: tuple[str, str], order: random.Random
) -> list[str]:
    """Return the lines of a test and of the one like it, under their new names."""
    made = [
        re.sub(rf"\b{name}\b", new, "\n".join(lines), count=1)
        for new, lines in zip(pair, halves, strict=True)
    ]
    order.shuffle(made)
    return [*made[0].split("\n"), "", *made[1].split("\n")]


def _put_in(text: str, made: Sequence[tuple[_Simple, list[str]]]) -> str:
    lines = text.split("\n")
    for simple, pair in sorted(made, key=lambda each: -each[0].first):
        lines[simple.first - 1 : simple.last] = pair
    return "\n".join(lines)


@functools.lru_cache(maxsize=256)  # gradings of a project ask about the same files
def _find_simple(text: str) -> dict[str, _Simple]:
    """Return the tests of a file of which there can be a like, by name (and class)."""
    if len(text) > _MAX_CHARS or set(text) & {"\r", "\f", "\ufeff"}:
        return {}
    try:
        return dict(_list_simple(parse_python(text).body, ""))
    except (SyntaxError, ValueError, RecursionError):
        return {}


def _list_simple(body: Sequence[ast.stmt], inside: str) -> Iterator[tuple[str, _Simple]]:
    for each in body:
        if isinstance(each, ast.ClassDef) and not inside:
            yield from _list_simple(each.body, f"{each.name}::")
        elif isinstance(each, ast.FunctionDef) and _is_plain(each, is_method=bool(inside)):
            values = [value for one in each.body for value in _list_values(one)]
            if values and each.end_lineno:
                yield f"{inside}{each.name}", _Simple(each.lineno, each.end_lineno, tuple(values))


def _is_plain(function: ast.FunctionDef, *, is_method: bool) -> bool:
    """Tell whether a function takes nothing, is not decorated, and only calls and asserts."""
    taken = function.args
    names = [each.arg for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    if function.decorator_list or taken.vararg or taken.kwarg:
        return False
    if names != (["self"] if is_method else []) or function.body[0].lineno == function.lineno:
        return False
    return all(isinstance(each, _QUIET) for each in function.body)


def _list_values(statement: ast.stmt) -> Iterator[_Value]:
    """Yield the values that are written where a statement says what it must be equal to."""
    sides: list[ast.expr] = []
    if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
        if [type(each) for each in statement.test.ops] == [ast.Eq]:
            sides = [statement.test.left, *statement.test.comparators]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value
        if isinstance(called.func, ast.Attribute) and called.func.attr == "assertEqual":
            sides = called.args[:2]
    written = [all(isinstance(each, _WRITTEN) for each in ast.walk(side)) for side in sides]
    if sorted(written) != [False, True]:
        return
    for each in ast.walk(sides[written.index(True)]):
        if not isinstance(each, ast.Constant) or type(each.value) not in (int, float, str, bool):
            continue
        if each.lineno == each.end_lineno:
            yield _Value(each.lineno, each.col_offset, each.end_col_offset or 0)
