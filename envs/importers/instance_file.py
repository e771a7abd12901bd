"""Reads a file of benchmark instances: JSON or JSONL of anybody, so of any size and content.

The format is known by its fields. Where they leave open whether a patch is the bug or its fix, the
file is refused until somebody says.
"""

import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from envs.errors import UserError
from envs.files import read_regular
from envs.importers.human_eval import read_program
from envs.importers.instance import Instance
from envs.importers.patched import read_swe_gym, read_swe_smith
from envs.importers.r2e_gym import read_r2e_gym
from envs.plain_text import plain_data, representable

Format = Literal["swe-smith", "swe-gym", "r2e-gym", "human-eval"]
FORMATS: tuple[Format, ...] = get_args(Format)
MAX_BYTES = 256 * 2**20  # of a file: all of it is held, some three times
_READERS: dict[Format, Callable[[dict[str, Any]], Instance]] = {
    "swe-smith": read_swe_smith,
    "swe-gym": read_swe_gym,
    "r2e-gym": read_r2e_gym,
    "human-eval": read_program,
}
_PATCHED = ("instance_id", "repo", "patch", "FAIL_TO_PASS", "PASS_TO_PASS")
_OF_A_FIX = ("test_patch", "hints_text", "version")  # SWE-bench's, which SWE-Gym has
_OF_A_BUG = ("image_name",)  # SWE-smith's
_REMEDY = "see docs/tasks.md for the fields of each format"


def read_instances(path: Path, *, form: Format | None = None) -> list[Instance]:
    """Return the instances in a file: one JSON object, a list of them, or one on each line.

    Args:
        path: The file.
        form: Its format; None for what its fields say.

    Raises:
        UserError: It cannot be read, an instance lacks a field, its format is not clear, or
            several repositories are named.
    """
    rows = _read_rows(path)
    form = form or _recognise(path, rows)
    found: list[Instance] = []
    for number, row in enumerate(rows, start=1):
        try:
            instance = _READERS[form](row)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path} holds no usable instances",
                got=f"number {number}: {_describe(error)}",
                remedy=f"correct it, or say another format with --format; {_REMEDY}",
            ) from error
        if form == "human-eval":  # of no repository; an id could tell the bug
            named = f"{path.stem} number {number}"
            instance = replace(instance, project=representable(path.stem), origin=named)
        found.append(instance)
    projects = sorted({each.project for each in found})
    if form != "human-eval" and len(projects) != 1:
        raise UserError(
            f"{path} must hold instances of one repository",
            got=", ".join(projects)[:200],
            remedy="write a file for each repository and import them one by one",
        )
    return found


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        if not os.path.lexists(path) or not stat.S_ISREG(path.lstat().st_mode):
            what = "not a regular file" if os.path.lexists(path) else "no such file"
            remedy = "name a file of JSON or JSONL, no link to one"
            raise UserError(f"{path}: {what}", remedy=remedy)
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path} is too large to read at once",
                got=f"{path.stat().st_size / 2**20:.0f} MiB",
                remedy=f"cut it into files of at most {MAX_BYTES // 2**20} MiB (JSONL: `split -l`)",
            )
        text = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig")
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            data = _parse_lines(text, whole=error)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} holds no usable instances",
            got=_describe(error),
            remedy=f"write JSON, or an object of JSON on each line; {_REMEDY}",
        ) from error
    rows = [plain_data(row) for row in (data if isinstance(data, list) else [data])]
    if not rows or not all(isinstance(row, dict) for row in rows):
        got = "an empty list" if not rows else "something else than objects"
        raise UserError(f"{path} holds no usable instances", got=got, remedy=_REMEDY)
    return rows


def _parse_lines(text: str, *, whole: ValueError) -> list[Any]:
    """Return what is on each line; where not even the first is JSON, the fault is of the `whole`.

    Raises:
        ValueError: A line, by its number, is no JSON.
    """
    data: list[Any] = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            data += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else _describe(error)
            raise (ValueError(f"line {number}: {why}") if data else whole) from error
    return data


def _recognise(path: Path, rows: list[dict[str, Any]]) -> Format:
    """Return the one format that the fields of all rows are of."""
    found = {_recognise_row(row): row for row in reversed(rows)}
    if len(found) > 1:
        kinds = ", ".join(sorted(each or "none known" for each in found))
        remedy = f"write a file for each format; {_REMEDY}"
        raise UserError(f"{path} mixes formats of instances", got=kinds, remedy=remedy)
    (form,) = found
    if form is not None:
        return form
    row = rows[0]
    fields = ", ".join(sorted(map(representable, row)))[:300] or "none"
    if set(_PATCHED) <= row.keys():
        both = [name for name in (*_OF_A_FIX, *_OF_A_BUG) if _has(row, name)]
        reason = f"it has {' and '.join(both)}" if both else "no field says it"
        raise UserError(
            f"{path} leaves open whether `patch` is the bug or the fix: {reason}",
            got=fields,
            remedy="say --format swe-smith (the bug) or --format swe-gym (the fix)",
        )
    remedy = f"name fields as one of {', '.join(FORMATS)} does, or say --format; {_REMEDY}"
    raise UserError(
        f"{path} is of no format that is known by its fields", got=fields, remedy=remedy
    )


def _recognise_row(row: Mapping[str, Any]) -> Format | None:
    if {"parsed_commit_content", "execution_result_content"} <= row.keys():
        return "r2e-gym"
    if {"canonical_solution", "test", "entry_point"} <= row.keys():
        return "human-eval"
    is_fix = any(_has(row, name) for name in _OF_A_FIX)
    is_bug = any(_has(row, name) for name in _OF_A_BUG)
    if not set(_PATCHED) <= row.keys() or is_fix == is_bug:
        return None
    return "swe-gym" if is_fix else "swe-smith"


def _has(row: Mapping[str, Any], name: str) -> bool:
    return row.get(name) is not None


def _describe(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return representable("{loc}: {msg}".format(**first))[:300]
    if isinstance(error, RecursionError):
        return "nested too deep"
    return representable(str(error))[:300]
