"""The dataset card of a task set: what `datasets.load_dataset(FOLDER)` reads, and what it may not.

The card is the folder's README.md. Its header names one file for each split and the type of each
public field, so no other file of the folder is taken for data, and every split has the same
columns. It is written from the records: a new field of `RepairTask` shows by itself.

Tests: tests/envs/tasks/test_store.py.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from envs.records import SPLITS, JsonValue, Record, RepairTask, Split

_SCALARS = {str: "string", int: "int64", float: "float64", bool: "bool", JsonValue: "json"}

_TEXT = """
# {source} tasks, seed {seed}

{counts}. Licence of the code: {licence}.

Each row is the public half of a repair task: all that an agent may learn. `workspace_sha` names the
broken workspace: `workspaces/SHA.json` lists its paths, each with the file in `files/` that holds
the text. The folder `private/` holds answers and hidden tests, which graders read and agents must
not; nothing of it is part of the dataset.

    datasets.load_dataset("path/to/this/folder", split="train")
"""


def name_split_file(split: Split) -> str:
    """Return the name of the file that holds the public tasks of a split."""
    return f"{split}.jsonl"


def write_card(*, source: str, seed: int, licence: str, counts: Mapping[Split, int]) -> str:
    """Return the text of README.md.

    Args:
        source: What the tasks are made of.
        seed: Drew the tasks.
        licence: Of the code in them.
        counts: Tasks of each split; one without tasks is left out, since `datasets` refuses it.
    """
    held = [split for split in SPLITS if counts[split]]
    files = [{"split": split, "path": name_split_file(split)} for split in held]
    header = {
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"features": _features(RepairTask)},
    }
    text = _TEXT.format(
        source=source,
        seed=seed,
        licence=licence or "unknown",
        counts=", ".join(f"{counts[split]} {split}" for split in SPLITS),
    )
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n{text}"


def _features(record: type[Record]) -> list[dict[str, Any]]:
    """Return the fields of a record as `datasets` writes features in YAML."""
    return [
        {"name": name} | _feature(info.annotation) for name, info in record.model_fields.items()
    ]


def _feature(kind: Any) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (kind,) = (part for part in inner if part is not NoneType)
        return _feature(kind)
    if origin is Literal:
        return {"dtype": "string"}
    if origin is tuple:
        of = inner[0]
        if of is JsonValue:
            return {"dtype": "json"}  # a list of anything
        item = _feature(of)
        return {"list": item.get("struct", item.get("dtype", item))}
    if isinstance(kind, type) and issubclass(kind, Record):
        return {"struct": _features(kind)}
    return {"dtype": _SCALARS[kind]}
