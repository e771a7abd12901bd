"""Tests mirror the rooms: each module has a test at the mirrored path, or says where it is.

A docstring may name the file: `Tests: tests/...`. Rooms stay small enough to be read as a list.
"""

import ast
import functools
import re
from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_MODULES = 18
SOURCES = [
    path
    for top in ("envs", "rewards", "train")
    for path in sorted((ROOT / top).rglob("*.py"))
    if path.name != "__init__.py"
]
ROOMS = sorted(
    {
        path.parent
        for top in ("envs", "rewards", "train", "scripts")
        for path in (ROOT / top).rglob("*.py")
    }
)
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def find_tests(path: Path) -> list[Path]:
    """Return where the tests of a module are by its docstring, else by its own path."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = re.search(r"\bTests: (.*?)(?:\n\n|\Z)", docstring, re.DOTALL)
    if line:
        return [ROOT / name for name in re.findall(r"tests/[\w/]+\.py", line[1])]
    return [ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_module_has_a_test_or_names_the_one_that_holds_it(path: Path) -> None:
    found = find_tests(path)
    assert found
    for test in found:
        assert test.is_file(), f"write {test}, or `Tests: tests/...` into the docstring of {path}"


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_holds_no_more_modules_than_one_reads_as_a_list(room: Path) -> None:
    modules = {path.name for path in room.glob("*.py")} - {"__init__.py"}
    assert len(modules) <= MAX_MODULES, sorted(modules)


def functions_of(text: str) -> list[ast.FunctionDef]:
    return [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]


def does_assert(function: ast.FunctionDef, checks: Collection[str]) -> bool:
    """Tell whether a function asserts something, itself or through one of `checks`."""
    return any(
        isinstance(node, ast.Assert) or getattr(node, "attr", getattr(node, "id", "")) in checks
        for node in ast.walk(function)
    )


@functools.cache
def checks() -> set[str]:
    """Return the names of all functions below tests/, but the tests, that assert something."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    functions = [each for text in texts for each in functions_of(text)]
    found, before = {"raises", "fail", "assert_close"}, set[str]()
    while found != before:
        before = set(found)
        found |= {each.name for each in functions if does_assert(each, before)}
    return {name for name in found if not name.startswith("test_")}


def silent_tests(text: str) -> list[str]:
    return [
        each.name
        for each in functions_of(text)
        if each.name.startswith("test_") and not does_assert(each, checks())
    ]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_asserts_something(path: Path) -> None:
    assert silent_tests(path.read_text(encoding="utf-8")) == []


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    text = "def test_a():\n    check_contexts(1)\ndef test_b():\n    print(1)\n"
    assert silent_tests(text) == ["test_b"]
    source = tmp_path / "module.py"
    source.write_text('"""What.\n\nTests: tests/a/test_b.py,\ntests/test_c.py.\n\nMore.\n"""\n')
    assert find_tests(source) == [ROOT / "tests/a/test_b.py", ROOT / "tests/test_c.py"]
