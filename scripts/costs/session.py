"""`tightrope cost session`: the turns of a session, their tokens, memory, money and time.

    tightrope cost session --turns 30 --first 3000 --result 1200 --sampled 300 --prices 3,0.3,15
    tightrope cost session qwen2.5-coder-0.5b --card H100 --hour-price 2.5

A session that keeps all it has seen: each turn sends what went before. Money follows from prices of
tokens, tasks per hour from a model on cards; both with and without a cache of prefixes. Prices are
the user's own. `--json` prints the same as one record.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from envs.errors import UserError
from tightrope_cli.costs.model_flags import FLAGS, read_model
from train.config.load import Flag, parse_flags
from train.stages.progress import size

if TYPE_CHECKING:
    from train.costs.session import Prices, Turn
    from train.costs.shape import ModelShape

_EXAMPLE = "tightrope cost session --turns 30 --prices 3,0.3,15"
_TASKS = 1000
_WAYS = {"without a cache": False, "with a cache": True}


def main(argv: Sequence[str]) -> int:
    """Print the tables; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope cost session",
        description="Prints tokens, memory, money and time of a session, turn by turn.",
        example=_EXAMPLE,
        flags=[
            *FLAGS,
            Flag("--turns", "of the session", kind=int, default=30, least=1),
            Flag("--first", "tokens of the first prompt", kind=int, default=3000, least=1),
            Flag(
                "--result", "tokens that each turn's result adds", kind=int, default=1200, least=0
            ),
            Flag("--sampled", "tokens that each turn samples", kind=int, default=300, least=1),
            Flag("--prices", "of a million tokens: NEW,CACHED,SAMPLED[,WRITTEN TO THE CACHE]"),
            Flag("--card", "the model's, such as H100: tasks per hour"),
            Flag("--cards", "how many share the model", kind=int, default=1, least=1),
            Flag("--hour-price", "of all these cards together", kind=float, least=0),
            Flag("--json", "print a record", kind=bool),
        ],
    )
    from train.costs.session import list_turns, read_prices

    prices = read_prices(flags["prices"]) if flags["prices"] else None
    shape = read_model(flags)
    turns = list_turns(
        flags["turns"], first=flags["first"], result=flags["result"], sampled=flags["sampled"]
    )
    record: dict[str, Any] = {"turns": list_rows(turns, prices=prices, shape=shape)}
    if prices:
        record["money"] = {way: prices.charge(turns, caches=on) for way, on in _WAYS.items()}
    if flags["card"]:
        record["serving"] = serve(shape, turns, flags)
    if flags["json"]:
        print(json.dumps(record))
        return 0
    _print(record, turns, flags)
    return 0


def list_rows(
    turns: "Sequence[Turn]", *, prices: "Prices | None", shape: "ModelShape | None"
) -> list[dict[str, Any]]:
    """Return for each turn its tokens, and what was billed and paid so far."""
    rows, billed = [], 0
    paid = dict.fromkeys(_WAYS, 0.0)
    for number, turn in enumerate(turns, start=1):
        billed += turn.prompt + turn.sampled
        row = {"turn": number, **asdict(turn), "billed": billed}
        if shape:
            row["kv_bytes"] = shape.kv_bytes(turn.prompt + turn.sampled)
        if prices:
            for way, caches in _WAYS.items():
                paid[way] += prices.charge([turn], caches=caches)
            row |= paid
        rows.append(row)
    return rows


def serve(
    shape: "ModelShape | None", turns: "Sequence[Turn]", flags: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Return what cards do with many such sessions, with and without a cache of prefixes.

    Raises:
        UserError: The model is not known well enough, or does not fit.
    """
    from train.costs.cards import find_card
    from train.costs.serving import estimate_serving

    if shape is None or shape.parameters is None:
        remedy = "name a config, or give all numbers from --layers to --vocab"
        raise UserError("--card needs a model with its parameters", remedy=remedy)
    found = {}
    for way, caches in _WAYS.items():
        card, num_cards = find_card(flags["card"]), flags["cards"]
        serving = estimate_serving(shape, turns, card=card, num_cards=num_cards, caches=caches)
        row = {**asdict(serving), "tasks_per_hour": serving.tasks_per_hour}
        if flags["hour_price"] is not None:
            row["money"] = flags["hour_price"] / serving.tasks_per_hour
        found[way] = row
    return found


def _print(record: Mapping[str, Any], turns: "Sequence[Turn]", flags: Mapping[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 100)
    heads = ["turn", "prompt", "of it cached", "sampled", "billed so far"]
    first = record["turns"][0]
    heads += ["kept"] if "kv_bytes" in first else []
    heads += [f"paid {way.split()[0]}" for way in _WAYS if way in first]
    table = Table(*heads)
    for row in record["turns"]:
        cells = [f"{row[name]:,}" for name in ("turn", "prompt", "cached", "sampled", "billed")]
        cells += [size(row["kv_bytes"])] if "kv_bytes" in row else []
        table.add_row(*cells, *(f"{row[way]:.3f}" for way in _WAYS if way in row))
    console.print(table)
    longest = turns[-1].prompt + turns[-1].sampled
    print(f"{record['turns'][-1]['billed'] / longest:,.1f} times its last view is billed")
    if "money" in record:
        table = Table("", "a turn", "a session", f"{_TASKS:,} tasks", title="money by tokens")
        for way, money in record["money"].items():
            table.add_row(
                way, f"{money / len(turns):.4f}", f"{money:.3f}", f"{_TASKS * money:,.0f}"
            )
        console.print(table)
    if "serving" in record:
        _print_serving(console, record["serving"], flags)


def _print_serving(
    console: Console, found: Mapping[str, Mapping[str, float]], flags: Mapping[str, Any]
) -> None:
    from train.costs.serving import ASSUMED

    heads = ["", "at once", "reading", "sampling", "tasks per hour"]
    heads += [f"{_TASKS:,} tasks"] if flags["hour_price"] is not None else []
    table = Table(*heads, title=f"{flags['cards']} x {flags['card']}, seconds for each session")
    for way, row in found.items():
        cells = [f"{row['sessions']:,}", f"{row['reading_s']:,.2f}", f"{row['sampling_s']:,.2f}"]
        cells += [f"{row['tasks_per_hour']:,.0f}"]
        cells += [f"{_TASKS * row['money']:,.2f}"] if "money" in row else []
        table.add_row(way, *cells)
    console.print(table)
    print(ASSUMED)
