"""`tightrope cost model`: what a request keeps in memory and computes, by its length.

    tightrope cost model qwen2.5-coder-0.5b
    tightrope cost model --layers 80 --kv-heads 8 --head-dim 128

From a config.json alone, so of any model that Transformers knows, or of numbers. `--json` prints
the same as one record.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from envs.errors import UserError
from tightrope_cli.costs.model_flags import FLAGS, read_model
from train.config.load import Flag, parse_flags
from train.stages.progress import size

if TYPE_CHECKING:
    from train.costs.shape import ModelShape

_EXAMPLE = "tightrope cost model --layers 80 --kv-heads 8 --head-dim 128"
_UNITS = {"": 1, "K": 1024, "M": 10**6}
NOTE = (
    "K is 1,024 tokens and M is 1,000,000; MB and GB are 10^6 and 10^9 bytes;\n"
    "operations are those of reading a prompt, to its first sampled token"
)


def main(argv: Sequence[str]) -> int:
    """Print the tables; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope cost model",
        description="Prints what a request keeps in memory and computes, by its length.",
        example=_EXAMPLE,
        flags=[
            *FLAGS,
            Flag("--lengths", "tokens of a request", default="4K,32K,128K,1M"),
            Flag("--json", "print a record", kind=bool),
        ],
    )
    lengths = read_lengths(flags["lengths"])
    shape = read_model(flags)
    if shape is None:
        raise UserError("no model is named", remedy=f"name one, or give its numbers: {_EXAMPLE}")
    rows = list_rows(shape, lengths)
    if flags["json"]:
        print(json.dumps(describe(shape) | {"lengths": rows}))
        return 0
    print("\n".join(_introduce(shape)))
    table = Table(*_heads(shape))
    for row in rows:
        table.add_row(*_cells(row, rows[0]))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    print(NOTE)
    return 0


def read_lengths(text: str) -> list[int]:
    """Return the numbers of tokens in a text such as `512,4K,1M`.

    Raises:
        UserError: There is something else in it.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"([1-9][0-9]{0,8})([KM]?)", part.strip())
        if match is None:
            raise UserError(
                "--lengths are numbers of tokens", got=part, remedy="write such as 512,4K,1M"
            )
        found.append(int(match[1]) * _UNITS[match[2]])
    return found


def list_rows(shape: "ModelShape", lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Return for each length what is kept of it, and what reading it takes."""
    from train.costs.flops import count_flops

    rows = []
    for tokens in lengths:
        row: dict[str, Any] = {"tokens": tokens, "kv_bytes": shape.kv_bytes(tokens)}
        if shape.parameters:
            flops = count_flops(shape, num_new=tokens, num_scored=1)
            row |= {"attention_flops": flops.attention, "total_flops": flops.total}
        rows.append(row)
    return rows


def describe(shape: "ModelShape") -> dict[str, Any]:
    """Return what does not depend on a length."""
    return {
        "model": shape.name,
        "layers": shape.describe_layers(),
        "bits": 8 * shape.bytes_per_value,
        "kv_bytes_per_token": shape.bytes_per_token,
        "state_bytes": shape.state_bytes,
        "parameters": asdict(shape.parameters) if shape.parameters else None,
        "weight_bytes": shape.weight_bytes if shape.parameters else None,
        "assumed": shape.assumed,
    }


def _introduce(shape: "ModelShape") -> list[str]:
    bits = f"{8 * shape.bytes_per_value:.0f} bits"
    lines = [f"{shape.name}: {shape.describe_layers()}"]
    if shape.parameters:
        total, used = shape.parameters.total, shape.parameters.used
        lines += [
            f"weights: {total:,} parameters, {size(shape.weight_bytes)} in {bits}",
            f"in products: {used:,} a token, {shape.parameters.head:,} more a scored one",
        ]
    states = f", and {size(shape.state_bytes)} whatever its length" if shape.state_bytes else ""
    lines.append(f"kept of a request: {shape.bytes_per_token:,.0f} bytes a token in {bits}{states}")
    if shape.assumed:
        lines.append(f"not in the file, by the architecture: {', '.join(shape.assumed)}")
    return lines


def _heads(shape: "ModelShape") -> list[str]:
    heads = ["tokens", "kept"]
    return [*heads, "attention", "x", "all operations", "x"] if shape.parameters else heads


def _cells(row: dict[str, Any], first: dict[str, Any]) -> list[str]:
    cells = [f"{row['tokens']:,}", size(row["kv_bytes"])]
    for name in ("attention_flops", "total_flops"):
        if name in row:
            ratio = row[name] / first[name] if first[name] else 1.0
            cells += [f"{row[name]:.2e}", f"{ratio:,.1f}" if ratio < 100 else f"{ratio:,.0f}"]
    return cells
