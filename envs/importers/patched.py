"""SWE-smith's and SWE-Gym's instances: a patch and two lists of tests.

SWE-smith's `patch` is the bug, so that the repository is the one without it and gold its reverse.
SWE-Gym's, as SWE-bench's, is the fix of an issue: the repository is at `base_commit`, which has the
bug, and `test_patch` brings the tests that show it.

Tests: tests/envs/importers/test_check_instance.py, tests/envs/importers/test_patched.py.
"""

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from envs.grading.test_suite import is_test_file
from envs.importers.instance import DOCUMENTATION, Instance, RejectError, Trees
from envs.mutation.patches import apply_patch
from envs.plain_text import plain_data
from envs.tasks.store import Files


def parse_nested(value: Any) -> Any:
    """Return what a field holds that may be JSON as text.

    Raises:
        ValueError: The text is no JSON.
    """
    try:
        return plain_data(json.loads(value)) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError("nested too deep") from None


def _text(value: Any) -> Any:
    return "" if value is None else value


TestIds = Annotated[tuple[str, ...], BeforeValidator(parse_nested)]
Text = Annotated[str, BeforeValidator(_text)]


class _Row(BaseModel):
    """What is read of an instance; other fields are ignored."""

    instance_id: str
    repo: str
    patch: str
    FAIL_TO_PASS: TestIds
    PASS_TO_PASS: TestIds
    problem_statement: Text = ""
    base_commit: Text = ""
    test_patch: Text = ""


def read_swe_smith(row: dict[str, Any]) -> Instance:
    """Return an instance whose patch is the bug.

    Raises:
        ValueError: It lacks a field, or one is of another type.
    """
    return _read(_Row.model_validate(row), is_bug=True)


def read_swe_gym(row: dict[str, Any]) -> Instance:
    """Return an instance whose patch is the fix.

    Raises:
        ValueError: It lacks a field, or one is of another type.
    """
    return _read(_Row.model_validate(row), is_bug=False)


def _read(row: _Row, *, is_bug: bool) -> Instance:
    def plant(base: Files) -> Trees:
        return _plant_bug(base, row.patch) if is_bug else _take_fix_out(base, row)

    failing = frozenset(row.FAIL_TO_PASS)
    return Instance(
        name=row.instance_id,
        project=row.repo.rpartition("/")[2],
        origin=f"{row.repo}@{row.base_commit or 'unknown'}",
        statement=row.problem_statement.strip(),
        plant=plant,
        failing=failing,
        passing=frozenset(row.PASS_TO_PASS) - failing,
        is_mutant=is_bug,
    )


def _plant_bug(base: Files, patch: str) -> Trees:
    changed = _patched(base, patch, name="patch")
    for path in changed:
        if path not in base:
            raise RejectError(f"the patch adds a file, which no edit removes ({path})")
        if is_test_file(path) or not path.endswith(".py"):
            raise RejectError(f"the patch changes more than Python sources ({path})")
    return Trees(base, base | changed)


def _take_fix_out(base: Files, row: _Row) -> Trees:
    tests = _patched(base, row.test_patch, name="test_patch") if row.test_patch.strip() else {}
    with_tests = base | tests
    fixed = _patched(with_tests, row.patch, name="patch")
    kept = {path: text for path, text in fixed.items() if not path.endswith(DOCUMENTATION)}
    return separate(with_tests, kept, test_files=frozenset(tests))


def separate(base: Files, fixed: Files, *, test_files: frozenset[str]) -> Trees:
    """Return the trees of a fix, of which only changes of Python sources count as such.

    What else it changes, such as data, is in both trees. A file that it adds is there without it
    too, but empty: it may be edited, and no tool makes files.

    Args:
        base: The tree before the fix, tests included.
        fixed: Files that it changes or adds, as it leaves them.
        test_files: Those of the tests.
    """
    code = {path for path in fixed if path.endswith(".py") and not is_test_file(path)} - test_files
    broken = base | {path: base.get(path, "") if path in code else fixed[path] for path in fixed}
    return Trees(base | fixed, broken, test_files)


def _patched(files: Files, patch: str, *, name: str) -> Files:
    try:
        return apply_patch(files, patch)
    except ValueError as error:
        raise RejectError(f"the {name} cannot be used (it {error})") from error
