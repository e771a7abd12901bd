"""What long measurements share: rows that are kept, a stopwatch, peak memory, ratios.

A measurement is a list of specs, each a small dictionary. A row is made of each and kept at once,
so that what was killed, or ran out of time, goes on with the next one.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks.any_project import ROOT, commit
from envs.files import append_row, read_rows, to_json
from rewards.intervals import Estimate
from rewards.seeds import t_interval
from train.rollouts.running_batch import RunningBatch

Spec = Mapping[str, Any]
Row = dict[str, Any]


def collect(
    specs: Sequence[Spec],
    measure: Callable[[Spec], Row],
    *,
    kept: Path,
    budget_s: float = math.inf,
    describe: Callable[[Row], str] = to_json,
) -> list[Row]:
    """Return the rows of the specs, in order; those that are not kept are measured now.

    Args:
        specs: What is to be measured.
        measure: Returns what it found, which must be JSON.
        kept: A file with a row a line; rows of other commits count, and say so.
        budget_s: Wall seconds after which nothing new is begun.
        describe: What is printed of a row when it is there.
    """
    began = time.monotonic()
    kept.parent.mkdir(parents=True, exist_ok=True)
    rows = {to_json(row["spec"]): row for row in read_rows(kept)}
    for spec in specs:
        if to_json(spec) in rows:
            continue
        if time.monotonic() - began > budget_s:
            print("the time is used up: the same command goes on", file=sys.stderr)
            break
        row = {"spec": dict(spec), "commit": commit(), **measure(spec)}
        append_row(kept, row)
        rows[to_json(spec)] = row
        print(describe(row), flush=True)
    return [rows[to_json(spec)] for spec in specs if to_json(spec) in rows]


def new_parser(about: str | None, *, rows: Path) -> argparse.ArgumentParser:
    """Return the arguments that comparisons of two sides share; `rows` is where theirs are kept."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "configs/tiny.yaml")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side")
    parser.add_argument("--rows", type=Path, default=rows)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def measure_alone(script: str, spec: Spec, *arguments: str) -> Row:
    """Measure in a process of its own: `SCRIPT --one SPEC` prints a row as its last line.

    So no measurement finds memory or threads that another has left.
    """
    line = [sys.executable, script, *arguments, "--one", to_json(dict(spec))]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return row


class Stopwatch:
    """Adds up the seconds that methods take, under labels; at its end they are what they were.

    Attributes:
        seconds: So far, by label.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stack = ExitStack()

    def time(self, owner: Any, name: str, label: str) -> None:
        """Time a method of an object or class from now on; not one that calls itself."""
        method = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                synchronize()
                self.seconds[label] += time.perf_counter() - began

        setattr(owner, name, timed)
        self._stack.callback(setattr, owner, name, method)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def watch_engine() -> Stopwatch:
    """Time what the engine computes; the rest is tools that it waits for, and the event loop."""
    watch = Stopwatch()
    watch.time(RunningBatch, "add", "prompts")
    watch.time(RunningBatch, "step", "tokens")
    return watch


def synchronize() -> None:
    """Wait until a GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> int:
    """Forget the peak so far; returns the bytes that are held now: of the GPU, else of RAM."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # man 5 proc: VmHWM starts anew
    return _status("VmRSS")


def peak_bytes() -> int:
    """Return the most bytes that were held at once since `reset_peak`."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return _status("VmHWM")


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text("ascii")
    return 1024 * int(text.partition(f"{name}:")[2].split()[0])


def estimate_ratio(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """Estimate the mean ratio of pairs (theirs, ours), geometric, with its interval by t."""
    logs = t_interval([math.log(theirs / ours) for theirs, ours in pairs])
    low, high = (None if each is None else math.exp(each) for each in logs.ci95)
    assert logs.value is not None
    return Estimate(value=math.exp(logs.value), ci95=(low, high))


def show_ratio(ratio: Estimate) -> str:
    """Return a ratio with its 95 % interval for a table."""
    low, high = ratio.ci95
    if ratio.value is None:
        return "-"
    return f"{ratio.value:.2f}x" + ("" if low is None else f" ({low:.2f} to {high:.2f})")


def show_interval(value: float | None, ci95: Sequence[float | None], form: str) -> str:
    """Return a value with its interval for a table; dashes where they are undefined."""
    texts = ["-" if each is None else format(each, form) for each in (value, *ci95)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def list_commits(rows: Sequence[Row]) -> str:
    """Return the commits that rows were measured at."""
    return ", ".join(sorted({row["commit"] for row in rows}))
