"""R2E-Gym's instances: a commit with the whole text of each file before and after, and its tests.

Read are `repo_name`, `commit_hash`, `problem_statement` and three fields that hold JSON as text:
`parsed_commit_content` (`file_diffs`, each with `header.file.path`, `old_file_content`,
`new_file_content`), `execution_result_content` (`test_file_names`, `test_file_codes`) and
`expected_output_json` (what each test says after the commit, as `Class.test` and its status). The
tests lie in `r2e_tests/`, as in the benchmark's images.

The repository may be at the commit or at its parent: each file is held against both texts.

Not covered: files that stand in the images only (a `conftest.py` of `r2e_tests/`), runners other
than pytest.
"""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from envs.grading.test_suite import is_test_file
from envs.importers.instance import DOCUMENTATION, Instance, RejectError, Trees
from envs.importers.patched import parse_nested, separate
from envs.tasks.store import Files

TEST_FOLDER = "r2e_tests"
_NO_FILE = ("", "/dev/null")
_COLOUR = re.compile(r"\x1b\[\d*m")
_ISSUE = re.compile(r"\[ISSUE\](.*)\[/ISSUE\]", re.DOTALL)


class _File(BaseModel):
    path: str


class _Header(BaseModel):
    file: _File


class _FileDiff(BaseModel):
    header: _Header
    old_file_content: str
    new_file_content: str
    is_binary_file: bool = False
    plus_file: _File | None = None

    @property
    def path(self) -> str:
        return self.header.file.path


class _Commit(BaseModel):
    file_diffs: tuple[_FileDiff, ...]


class _Execution(BaseModel):
    test_file_names: tuple[str, ...]
    test_file_codes: tuple[str, ...]


class _Row(BaseModel):
    """What is read of an instance; other fields are ignored."""

    repo_name: str
    commit_hash: str
    problem_statement: str = ""
    parsed_commit_content: Annotated[_Commit, BeforeValidator(parse_nested)]
    execution_result_content: Annotated[_Execution, BeforeValidator(parse_nested)]
    expected_output_json: Annotated[dict[str, str], BeforeValidator(parse_nested)]


def read_r2e_gym(row: dict[str, Any]) -> Instance:
    """Return an instance.

    Raises:
        ValueError: It lacks a field, or one is of another type.
    """
    read = _Row.model_validate(row)
    issue = _ISSUE.search(read.problem_statement)
    return Instance(
        name=f"{read.repo_name}-{read.commit_hash[:10]}",
        project=read.repo_name,
        origin=f"{read.repo_name}@{read.commit_hash}",
        statement=(issue[1] if issue else read.problem_statement).strip(),
        plant=lambda base: _plant(base, read),
        passing=frozenset(_name_tests(read)),
    )


def _name_tests(row: _Row) -> list[str]:
    """Return the ids that tests which pass after the commit may have: the file is not named."""
    passed = {
        _COLOUR.sub("", name).partition(" - ")[0]
        for name, status in row.expected_output_json.items()
        if status == "PASSED"
    }
    heads = [name.partition("[") for name in passed]
    names = [head.replace(".", "::") + bracket + rest for head, bracket, rest in heads]
    files = row.execution_result_content.test_file_names
    return [f"{TEST_FOLDER}/{file}::{name}" for file in files for name in names]


def _plant(base: Files, row: _Row) -> Trees:
    execution = row.execution_result_content
    pairs = zip(execution.test_file_names, execution.test_file_codes, strict=False)
    tests = {f"{TEST_FOLDER}/{name}": code for name, code in pairs}
    for path in tests:
        if ".." in path.split("/") or not path.endswith(".py"):
            raise RejectError(f"a test file has a name that cannot be used ({path})")
    before, after = dict[str, str](), dict[str, str]()
    for diff in row.parsed_commit_content.file_diffs:
        if is_test_file(diff.path) or diff.path.endswith(DOCUMENTATION):
            continue
        _check_diff(diff, base)
        old, new = diff.old_file_content, diff.new_file_content
        after[diff.path] = new
        if old not in _NO_FILE or diff.path in base:
            before[diff.path] = "" if old in _NO_FILE else old
    without = {path: text for path, text in base.items() if path not in after}
    return separate(without | before | tests, after, test_files=frozenset(tests))


def _check_diff(diff: _FileDiff, base: Files) -> None:
    path, old, new = diff.path, diff.old_file_content, diff.new_file_content
    plus = diff.plus_file.path.removeprefix("b/") if diff.plus_file else path
    if diff.is_binary_file or plus != path or (new in _NO_FILE and old not in _NO_FILE):
        raise RejectError(f"the commit removes or renames a file, or changes bytes ({path})")
    known = {_plain(text) for text in (old, new)}
    if path not in base and old not in _NO_FILE:
        raise RejectError(f"the commit changes a file that is not there ({path})")
    if path in base and _plain(base[path]) not in known:
        raise RejectError(f"a file is neither as before nor as after the commit ({path})")


def _plain(text: str) -> str:
    """Return a text whose line ends and last line end do not matter."""
    return "" if text in _NO_FILE else text.replace("\r\n", "\n").rstrip("\n")
