"""JSONL: one JSON text a line, cut at LF alone; every file of lines is written and read here.

JSON may hold U+2028, U+0085 and form feeds as they are, at which `str.splitlines` would cut.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

_R = TypeVar("_R", bound=BaseModel)


def json_text(data: Any, *, indent: int | None = None) -> str:
    """Return data as JSON in ASCII; a number that is not finite becomes null."""
    return json.dumps(_finite(data), allow_nan=False, sort_keys=indent is not None, indent=indent)


def joined(lines: Iterable[str]) -> str:
    """Return the text of a file that holds one JSON text a line."""
    found = list(lines)
    assert not any("\n" in line for line in found), "JSON on one line holds no line feed"
    return "".join(f"{line}\n" for line in found)


def joined_records(records: Iterable[BaseModel]) -> str:
    """Return the text of a file that holds one record a line."""
    return joined(record.model_dump_json() for record in records)


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one object."""
    with path.open("ab") as file:
        file.write(f"{json_text(row)}\n".encode())


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that are whole: behind one that a kill cut short is no LF."""
    return [line for line in path.read_bytes().split(b"\n")[:-1] if line.strip()]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file that grows, as far as they are whole; [] if there is none."""
    return [json.loads(line) for line in read_lines(path)] if path.is_file() else []


def read_records(path: Path, kind: type[_R]) -> list[_R]:
    """Return the records of a file that was written whole.

    Raises:
        ValidationError: A line is no such record.
    """
    lines = path.read_bytes().split(b"\n")
    return [kind.model_validate_json(line) for line in lines if line.strip()]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
