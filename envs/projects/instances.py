"""Reads SWE-smith-style instances, and the repository of theirs that lies in a local folder.

An instance is JSON with `instance_id`, `repo`, `patch` (the bug: gold is its reverse) and the lists
FAIL_TO_PASS and PASS_TO_PASS (or JSON texts of lists); `problem_statement` and `base_commit` may be
there. `envs/projects/swe_smith.py` makes tasks of them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from envs.errors import UserError
from envs.plain_text import plain_data
from envs.projects.lock_file import texts_of
from envs.tasks.store import Files

MAX_FILE_BYTES = 256 * 2**10  # of a text file that is not Python
MAX_TREE_BYTES = 16 * 2**20  # of all files together, which every run writes anew
_NOT_SOURCE = {"__pycache__", "build", "dist", "env", "node_modules", "site-packages", "venv"}


def _listed(value: Any) -> Any:
    try:
        return plain_data(json.loads(value)) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError("nested too deep") from None


TestIds = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Instance(BaseModel):
    """What is read of an instance; other fields are ignored."""

    instance_id: str
    repo: str
    patch: str
    FAIL_TO_PASS: TestIds
    PASS_TO_PASS: TestIds
    problem_statement: str = ""
    base_commit: str = ""


def read_instances(path: Path) -> list[Instance]:
    """Return the instances in a file: one JSON object, a list of them, or one on each line.

    Raises:
        UserError: It cannot be read, an instance lacks a field, or several repositories are named.
    """
    remedy = "give SWE-smith-style JSON: instance_id, repo, patch, FAIL_TO_PASS, PASS_TO_PASS"
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}", got=str(error), remedy=remedy) from error
    try:
        try:
            data = json.loads(text)
        except json.JSONDecodeError:
            data = [json.loads(line) for line in text.split("\n") if line.strip()]
        data = plain_data(data, depth=4)
        found = [
            Instance.model_validate(each) for each in (data if isinstance(data, list) else [data])
        ]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} holds no usable instance", got=f"{where}: {first['msg']}", remedy=remedy
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        raise UserError(f"{path} is not JSON", got=str(error)[:200], remedy=remedy) from error
    repositories = sorted({each.repo for each in found})
    if len(repositories) != 1:
        raise UserError(
            f"{path} must hold instances of one repository",
            got=", ".join(repositories) or "none",
            remedy="write a file for each repository and import them one by one",
        )
    return found


def read_repository(folder: Path) -> Files:
    """Return the Python files of a folder, and small text files in folders that hold some.

    Hidden folders, environments and what a build leaves behind are left out, links not followed.

    Raises:
        UserError: There is no Python file, too much, or something that may not be read.
    """
    remedy = "name the folder of a Python project, checked out at the instances' base_commit"
    if not folder.is_dir():
        raise UserError("no such folder", got=str(folder), remedy=remedy)
    try:
        found = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in _source_files(folder)
        }
    except PermissionError as error:
        raise UserError("cannot read the repository", got=str(error), remedy=remedy) from error
    tops = {path.partition("/")[0] for path in found if path.endswith(".py")}
    files = texts_of(  # a test that reads what is no text fails, and is then left out
        {
            path: data
            for path, data in found.items()
            if path.partition("/")[0] in tops and b"\0" not in data
        }
    )
    size = sum(map(len, files.values()))
    if not tops or size > MAX_TREE_BYTES:
        got = f"{folder}: {size:,} bytes" if tops else f"no Python file in {folder}"
        raise UserError("the folder holds no project of usual size", got=got, remedy=remedy)
    return files


def _source_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") or path.name in _NOT_SOURCE or path.is_symlink()
        if hidden or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from _source_files(path)
        elif path.suffix == ".py" or (path.is_file() and path.stat().st_size <= MAX_FILE_BYTES):
            yield path
