"""The limits of style that a tool does not check: long files, long functions, ASCII comments."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FOLDERS = ("envs", "rewards", "train", "scripts", "tests", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def long_functions(text: str) -> list[str]:
    return [
        f"line {node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]


def foreign_comments(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        f"line {token.start[0]}: {token.string}"
        for token in tokens
        if token.type == tokenize.COMMENT and not token.string.isascii()
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short_and_comments_ascii(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    num_lines = text.count("\n")
    assert num_lines <= MAX_FILE_LINES, f"{num_lines} lines: split the file"
    assert long_functions(text) == []
    assert foreign_comments(text) == []


def loose_lines(text: str) -> list[str]:
    """Return the calls that cut at more than a parser, or a reader of JSONL, takes for a line end.

    Lines are cut by `envs.source_text` and `envs.jsonl`, or at "\\n" by `split`.
    """
    return [
        f"line {node.lineno}: {node.attr}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and node.attr in ("splitlines", "readlines")
    ]


PRODUCT = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "tests"]


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_cut_in_one_way(path: Path) -> None:
    assert loose_lines(path.read_text(encoding="utf-8")) == []


def test_the_checks_see_what_they_look_for() -> None:
    body = "    pass\n" * MAX_FUNCTION_LINES
    assert long_functions(f"def f():\n{body}") == ["line 1: f has 61 lines"]
    assert long_functions(f"def f():\n{body[9:]}") == []
    assert loose_lines("x = text.splitlines()[0]") == ["line 1: splitlines"]
    assert foreign_comments("x = 1  # \u00fcber\n") == ["line 1: # \u00fcber"]
    assert foreign_comments("x = '\u00fc'  # plain\n") == []


@pytest.mark.parametrize(
    "path",
    [path for path in PRODUCT if path.relative_to(ROOT).parts[0] in ("train", "scripts")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_lines_for_the_user_go_to_the_terminal(path: Path) -> None:
    """While a stage runs, `sys.stderr` is its log; `output.say` writes to the terminal."""
    text = path.read_text(encoding="utf-8")
    assert "sys.stderr.write" not in text and "file=sys.stderr" not in text
