"""The files of a model's weights: safetensors, never pickles; a stranger's, so read within bounds.

Loads no torch. Tests: tests/train/models/test_model_folder.py.
"""

import json
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open

from envs.errors import UserError
from envs.files import is_inside, read_regular
from envs.plain_text import visible

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
MAX_JSON_BYTES = 64 * 2**20  # an index of 60,000 experts' weights, the largest published, has 9 MB
TRUST_REMEDY = "copy it anew from where it was saved, or take one from somebody whom you trust"


def make_readable(folder: Path) -> None:
    """Give weights below a folder the mode of the config beside them.

    safetensors 0.8 writes for the owner only, whatever the umask says; servers have their own user.
    """
    for path in folder.rglob("*.safetensors"):
        for config in path.parent.glob("*config.json"):
            path.chmod(config.stat().st_mode & 0o666)


def refuse_file(path: Path, why: str) -> NoReturn:
    """Raise the error for a file that no library should open, or that none can read."""
    got = visible(f"{path}: {' '.join(why.split())[:300]}")
    raise UserError("a model's files cannot be read", got=got, remedy=TRUST_REMEDY)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a file of JSON holds.

    Raises:
        UserError: It cannot be read, or holds none.
    """
    try:
        found = json.loads(read_regular(path.resolve(), max_bytes=MAX_JSON_BYTES))
    except OSError as error:
        refuse_file(path, error.strerror or str(error))
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)
        refuse_file(path, f"no JSON ({why})")
    if not isinstance(found, dict):
        refuse_file(path, "no object")
    return found


def list_weights(folder: Path) -> list[Path]:
    """Return the files of weights that a model's folder should have: one, or what its index names.

    Raises:
        UserError: The index is none.
    """
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    shards = read_object(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        refuse_file(folder / INDEX, "it names no weights")
    for name in shards.values():
        if not isinstance(name, str) or not is_inside(name) or not name.endswith(".safetensors"):
            refuse_file(folder / INDEX, f"it names {str(name)[:99]!r}")
    return [folder / name for name in sorted(set(shards.values()))]


def missing_weights(folder: Path) -> list[str]:
    """Return the files of weights that a model's folder lacks; none if it is whole.

    Raises:
        UserError: Its index is none.
    """
    paths = [path for path in list_weights(folder) if not path.is_file()]
    return [str(path.relative_to(folder)) for path in paths]


def read_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor in a file of weights.

    Raises:
        UserError: It cannot be read.
    """
    try:
        with safe_open(path, "numpy") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, MemoryError, SafetensorError) as error:
        refuse_file(path, str(error))
