"""Which model a verb of `tightrope cost` is asked about: a config, or numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.errors import UserError
from train.config.load import Flag, default_cache

if TYPE_CHECKING:
    from train.costs.shape import ModelShape

_KEPT = ("layers", "kv_heads", "head_dim")
_COMPUTED = ("heads", "width", "mlp", "vocab")
FLAGS = (
    Flag("model", "a model's folder, its config.json, or the name of a fetched model", nargs="?"),
    Flag("--layers", "number of layers, of a model that is given by numbers", kind=int, least=1),
    Flag("--kv-heads", "heads of keys and values", kind=int, least=1),
    Flag("--head-dim", "features of a head", kind=int, least=1),
    Flag("--heads", "heads of queries; with the next three for operations", kind=int, least=1),
    Flag("--width", "features of a token between layers", kind=int, least=1),
    Flag("--mlp", "features of a gated MLP", kind=int, least=1),
    Flag("--vocab", "tokens of the vocabulary", kind=int, least=1),
    Flag("--bits", "of a value in weights and cache", kind=int, default=16, least=1),
)


def read_model(flags: Mapping[str, Any]) -> "ModelShape | None":
    """Return the shape of the model that flags name; None if they name none.

    Raises:
        UserError: They name one only in part, or in two ways; or it cannot be read.
    """
    given = [name for name in (*_KEPT, *_COMPUTED) if flags[name] is not None]
    if flags["model"] is None and not given:
        return None
    if flags["model"] is not None and given:
        raise UserError(
            "a model is given twice",
            got=f"{flags['model']} and {_write(given)}",
            remedy="name a config, or give numbers",
        )
    from train.costs.shape import (  # torch takes seconds to load
        config_of_numbers,
        measure_shape,
        open_shape,
        shape_of_numbers,
    )

    bits = flags["bits"]
    if flags["model"] is not None:
        fetched = default_cache() / "models" / flags["model"]
        path = Path(flags["model"]).expanduser()
        return open_shape(path if path.exists() else fetched, named=flags["model"], bits=bits)
    kept = {name: flags[name] for name in _KEPT}
    computed = {name: flags[name] for name in _COMPUTED}
    missing = [name for name, value in kept.items() if value is None]
    others = [name for name, value in computed.items() if value is None]
    if missing or 0 < len(others) < len(computed):
        remedy = f"add {_write([*missing, *(others if len(others) < len(computed) else [])])}"
        raise UserError("numbers of a model are missing", got=_write(given), remedy=remedy)
    shape = shape_of_numbers(**kept, bits=bits)
    if others:
        return shape
    if flags["heads"] % flags["kv_heads"]:
        got = f"{flags['heads']} and {flags['kv_heads']}"
        raise UserError("--heads are no multiple of --kv-heads", got=got, remedy="give one")
    return measure_shape(config_of_numbers(**kept, **computed), name=shape.name, bits=bits)


def _write(names: Sequence[str]) -> str:
    return " ".join(f"--{name.replace('_', '-')}" for name in names)
