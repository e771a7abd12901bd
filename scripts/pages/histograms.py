"""Histograms of a task set's difficulty as PNG files, and of pass@1 where a run has measured it.

    write_histograms(tasks, {}, folder=Path("tasks.stats"))

One file for each field of `Difficulty` that is known, in the style of the report's figures. Same
tasks, same bytes, for one matplotlib.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from envs.records import Difficulty, RepairTask, Split
from rewards.solves import Solves, pass_at_k
from tightrope_cli.pages.plots import DOTS_PER_INCH, LOOKS, STYLE

COLOURS: Final[dict[Split, str]] = {
    "train": LOOKS["grpo"][0],
    "dev": LOOKS["careful"][0],
    "test": LOOKS["sft"][0],
}
NUM_BINS: Final = 24
LABELS: Final = {
    "sites": "mutated places",
    "files": "files to mend",
    "lines": "lines in the workspace",
    "failing_tests": "failing tests",
    "call_distance": "calls between the visible test and the bug",
    "traceback_names_function": "the statement names the function",
    "pass_at_1": "pass@1 in training",
}


def write_histograms(
    tasks: Sequence[RepairTask], solves: Mapping[str, Solves], *, folder: Path
) -> list[Path]:
    """Write a histogram for each field with known values; returns the files."""
    fields: dict[str, dict[str, float]] = {
        name: {
            task.id: float(value)
            for task in tasks
            if (value := getattr(task.difficulty, name)) is not None
        }
        for name in Difficulty.model_fields
    }
    fields["pass_at_1"] = {name: pass_at_k(each, 1) for name, each in solves.items()}
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        for name, values in fields.items():
            if values:
                path = folder / f"{name}.png"
                figure = _histogram(name, values, {task.id: task.split for task in tasks})
                figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
                written.append(path)
    return written


def _histogram(name: str, values: Mapping[str, float], splits: Mapping[str, Split]) -> Figure:
    """Draw tasks by value, the splits on top of each other."""
    figure = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = figure.subplots()
    drawn = {
        split: [value for task, value in values.items() if splits[task] == split]
        for split in COLOURS
    }
    drawn = {split: found for split, found in drawn.items() if found}
    axes.hist(
        list(drawn.values()),
        bins=_edges(name, list(values.values())),
        stacked=True,
        color=[COLOURS[split] for split in drawn],
        label=list(drawn),
        edgecolor="white",
        linewidth=0.4,
    )
    axes.set(title=f"Tasks by {LABELS[name]}", xlabel=LABELS[name], ylabel="tasks")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if name == "traceback_names_function":
        axes.set_xticks([0, 1], ["no", "yes"])
    elif name == "pass_at_1":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.0%}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(drawn) > 1:
        axes.legend()
    return figure


def _edges(name: str, values: Sequence[float]) -> list[float]:
    """Return the ends of the bins: around each integer if there are few, else `NUM_BINS` alike."""
    low, high = min(values), max(values)
    if name == "pass_at_1":
        return [number / 10 for number in range(11)]
    if high - low < NUM_BINS:
        return [number - 0.5 for number in range(int(low), int(high) + 2)]
    width = (high - low) / NUM_BINS
    return [low + number * width for number in range(NUM_BINS)] + [high]
