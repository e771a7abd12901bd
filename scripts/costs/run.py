"""`tightrope cost run RUN`: episodes per hour, and money for one that was solved, as measured.

    tightrope cost run runs/demo --hour-price 2.5
    tightrope cost run runs/demo --prices 3,0.3,15

From the files of a run alone. The machine's price is of all that it ran on together, those of
tokens of a million; either may be left out. `--json` prints a record for each part.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from train.config.load import Flag, parse_flags

if TYPE_CHECKING:
    from train.costs.run_costs import PartCost

_DERIVED = ("episodes_per_hour", "money_per_solved", "tokens_money_per_solved")


def main(argv: Sequence[str]) -> int:
    """Print a row for each part of the run; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope cost run",
        description="Prints what the parts of a run took, and what one solved episode cost.",
        example="tightrope cost run runs/demo --hour-price 2.5",
        flags=[
            Flag("run", "folder of a run, runs/NAME", kind=Path),
            Flag("--hour-price", "of the run's machines together", kind=float, least=0),
            Flag("--prices", "of a million tokens: NEW,CACHED,SAMPLED[,WRITTEN TO THE CACHE]"),
            Flag("--json", "print records, one a line", kind=bool),
        ],
    )
    from train.costs.run_costs import measure_run
    from train.costs.session import read_prices

    prices = read_prices(flags["prices"]) if flags["prices"] else None
    parts = measure_run(flags["run"], hour_price=flags["hour_price"], prices=prices)
    if flags["json"]:
        for part in parts:
            print(json.dumps(asdict(part) | {name: getattr(part, name) for name in _DERIVED}))
        return 0
    table = Table("", "episodes", "solved", "hours", "episodes per hour", "money", "per solved")
    for part in parts:
        table.add_row(*_cells(part))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if any(part.seconds is None for part in parts):
        print("-: not in the files; an evaluation of an older version did not write its seconds")
    return 0


def _cells(part: "PartCost") -> list[str]:
    def show(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    hours = None if part.seconds is None else part.seconds / 3600
    money = [show(part.money, ",.3f"), show(part.money_per_solved, ",.4f")]
    if part.tokens_money is not None:
        tokens = [show(part.tokens_money, ",.3f"), show(part.tokens_money_per_solved, ",.4f")]
        money = [f"{machine}; tokens {paid}" for machine, paid in zip(money, tokens, strict=True)]
    cells = [part.name, f"{part.num_episodes:,}", f"{part.num_solved:,}"]
    return [*cells, show(hours, ",.3f"), show(part.episodes_per_hour, ",.0f"), *money]
