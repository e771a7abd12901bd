"""A folder with a model or an adapter is a stranger's: looked through before a library opens it.

    check_model(folder)                   # its files, then what they say
    with naming_faults(folder): ...       # around whatever a library reads of it

Files are regular and lie inside (or in the blobs of the hub's own cache), JSON is bounded, weights
are safetensors whose heads can be read, nothing names a file elsewhere. No weights are read, and
what is never opened may be anything. Not covered: a hub id that is not in the cache yet.
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from envs.errors import InfrastructureError, UserError, find_storage_error
from envs.files import is_inside
from envs.plain_text import visible
from train.models.cache_layers import list_unserved
from train.models.tokenizer_file import check_tokenizer
from train.models.weight_files import (
    MAX_JSON_BYTES,
    TRUST_REMEDY,
    list_weights,
    read_object,
    read_shapes,
    refuse_file,
)

_TOKENIZER = "tokenizer.json"
ADAPTER_CONFIG = "adapter_config.json"
_MAX_ENTRIES = 10_000
_MAX_TOKENIZER_BYTES = 256 * 2**20  # those of 260,000 tokens have 35 MB
_MAX_LAYERS = 1_000  # the largest published have 126
_OPENED = (".json", ".safetensors", ".jinja", ".model", ".txt")
_NAMES_A_FILE = re.compile(r".*_files?\Z")


def check_model(folder: Path) -> None:
    """Refuse a model's folder that no library should open; weights may be missing.

    Raises:
        UserError: It holds what no such folder may hold, or an architecture that cannot be used.
    """
    found = _check_files(folder)
    if ADAPTER_CONFIG in found:  # Transformers would load the base that it names
        raise UserError(
            "the folder of a base holds an adapter too, which names another base",
            got=visible(str(folder / ADAPTER_CONFIG)),
            remedy="move it away; an adapter is named in evaluate.policies",
        )
    check_config(folder / "config.json")
    for name in ("config.json", "tokenizer_config.json"):
        if name in found:
            _check_named_files(folder, name, read_object(folder / name))
    _check_layers(folder)  # opens the files that are named
    if _TOKENIZER in found:
        check_tokenizer(folder / _TOKENIZER)
    for path in list_weights(folder):
        if path.is_file():
            read_shapes(path)


def check_config(file: Path) -> None:
    """Refuse the file of a config that describes no causal language model of Transformers' own.

    Raises:
        UserError: It does not, or what it says of its layers is no list, or no number.
    """
    config = read_object(file)
    name = config.get("model_type")
    if not isinstance(name, str) or name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UserError(
            f"Transformers {transformers.__version__} has no causal language model of this type",
            got=visible(f"model_type {str(name)[:99]} in {file}"),
            remedy="use a base whose architecture Transformers ships; code from a model's own "
            "folder is never run",
        )
    kinds = config.get("layer_types") or ()
    if not isinstance(kinds, list | tuple) or not all(isinstance(kind, str) for kind in kinds):
        refuse_file(file, "layer_types is no list of names")
    standard = "num_hidden_layers"
    for field in (standard, CONFIG_MAPPING[name].attribute_map.get(standard, standard)):
        num_layers = config.get(field, 1)
        if not isinstance(num_layers, int) or not 1 <= num_layers <= _MAX_LAYERS:
            refuse_file(file, f"{field} is {str(num_layers)[:40]}")


def check_adapter_files(folder: Path) -> None:
    """Refuse an adapter's folder that no library should open.

    Raises:
        UserError: It holds what no such folder may hold.
    """
    _check_files(folder)


def check_size(model: Any, folder: Path) -> None:
    """Refuse a model larger than its weights: what they lack would be made up, in memory.

    Args:
        model: Built of its config.json on the meta device.
        folder: Where the weights lie.

    Raises:
        UserError: It is.
    """
    numbers = [*model.parameters(), *model.buffers()]
    needed = sum(tensor.numel() for tensor in numbers)
    held = sum(path.stat().st_size for path in list_weights(folder))
    if needed > 8 * held + 2**20:  # 1 bit each is the least that anybody stores; causal masks
        raise UserError(
            "config.json describes a model that its weights are not of",
            got=f"{needed:,} numbers, {held:,} bytes in {folder}",
            remedy=TRUST_REMEDY,
        )


@contextmanager
def naming_faults(source: str | Path, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever a library raises over a stranger's files into an error that names them.

    Args:
        source: Where they lie.
        but: What the caller turns itself.

    Raises:
        UserError: Something was raised, but for a full disk or memory.
    """
    try:
        yield
    except (UserError, InfrastructureError, MemoryError, torch.OutOfMemoryError, *but):
        raise
    except BaseException as error:
        is_panic = type(error).__name__ == "PanicException"  # of Rust, derived from BaseException
        if not (isinstance(error, Exception) or is_panic) or find_storage_error(error):
            raise
        try:
            refuse_file(Path(source), f"{type(error).__name__}: {error}")
        except UserError as refusal:
            raise refusal from error


def _check_files(folder: Path) -> Collection[str]:
    """Return the names in a folder after looking at those that a library may open."""
    found = _list(folder)
    templates = folder / "additional_chat_templates"
    if templates.name in found:
        if templates.is_symlink() or not templates.is_dir():
            refuse_file(templates, "not a folder of its own")
        _list(templates)
    return found


def _list(folder: Path) -> set[str]:
    found: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            found.add(entry.name)
            if len(found) > _MAX_ENTRIES:
                refuse_file(folder, f"more than {_MAX_ENTRIES:,} files")
            if entry.name.endswith(_OPENED):
                _check_file(folder, Path(entry.path))
    return found


def _check_file(folder: Path, path: Path) -> None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # to nowhere, or in a circle
        refuse_file(path, "a link, which leads nowhere")
    if not any(target.is_relative_to(root) for root in _find_roots(folder)):
        refuse_file(path, "a link, which leads elsewhere")
    if not target.is_file():
        refuse_file(path, "not a regular file")
    most = {".safetensors": None, ".model": _MAX_TOKENIZER_BYTES, ".txt": _MAX_TOKENIZER_BYTES}
    limit = most.get(path.suffix, MAX_JSON_BYTES)
    limit = _MAX_TOKENIZER_BYTES if path.name == _TOKENIZER else limit
    if limit is not None and target.stat().st_size > limit:
        refuse_file(path, f"{target.stat().st_size / 2**20:.0f} MiB")


def _find_roots(folder: Path) -> list[Path]:
    """Return where files may lie: in the folder; of the hub's cache, in the blobs beside it."""
    top = folder.resolve()
    return [top, top.parents[1] / "blobs"] if top.parent.name == "snapshots" else [top]


def _check_layers(folder: Path) -> None:
    with naming_faults(folder / "config.json"):
        others = list_unserved(AutoConfig.from_pretrained(str(folder), trust_remote_code=False))
    if others:
        raise UserError(
            "generation has no cache for layers of this base",
            got=visible(f"{', '.join(others)} in {folder}"),
            remedy="use a base with attention, Mamba or linear attention, such as Qwen2.5-Coder",
        )


def _check_named_files(folder: Path, name: str, config: dict[str, Any]) -> None:
    """Refuse what names a file elsewhere; one that is nowhere cannot be opened."""
    for key, value in config.items():
        values = value if isinstance(value, list) else [value]
        for each in values if _NAMES_A_FILE.match(key) else ():
            if isinstance(each, str) and not is_inside(each) and os.path.lexists(folder / each):
                refuse_file(folder / name, f"{key} names a file elsewhere")
