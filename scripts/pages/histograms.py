"""Histograms of a task set's difficulty as PNG files, and of pass@1 where a run has measured it.

    write_histograms(tasks, {}, folder=Path("tasks.stats"))

One file for each field of `Difficulty` that is known, in the style of the report's charts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from envs.records import Difficulty, RepairTask, Split
from rewards.solves import Solves, pass_at_k
from tightrope_cli.pages.figures import COLOURS, STYLE, Chart

SPLIT_COLOURS: Final[dict[Split, str]] = {
    "train": COLOURS["accent"],
    "dev": COLOURS["careful"],
    "test": COLOURS["sft"],
}
NUM_BINS: Final = 24
LABELS: Final = {
    "sites": "mutated places",
    "files": "files to edit",
    "lines": "lines in the workspace",
    "failing_tests": "failing tests",
    "call_distance": "calls between the visible test and the bug",
    "traceback_names_function": "the statement names the function",
    "trivial": "the statement says the repair",
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
    splits = {task.id: task.split for task in tasks}
    charts = [_draw(name, values, splits) for name, values in fields.items() if values]
    return [path for chart in charts for path in chart.write(folder, kinds=["png"])]


def _draw(name: str, values: Mapping[str, float], splits: Mapping[str, Split]) -> Chart:
    """Draw tasks by value, the splits on top of each other."""
    found = [[values[task] for task in values if splits[task] == each] for each in SPLIT_COLOURS]
    drawn = [split for split, some in zip(SPLIT_COLOURS, found, strict=True) if some]
    with rc_context(STYLE):
        figure = Figure(figsize=(5, 3))
        axes = figure.subplots()
        axes.hist(
            [some for some in found if some],
            bins=_edges(name, list(values.values())),
            stacked=True,
            color=[SPLIT_COLOURS[split] for split in drawn],
            label=drawn,
            edgecolor="white",
            linewidth=0.4,
        )
        axes.set(title=f"Tasks by {LABELS[name]}", xlabel=LABELS[name], ylabel="tasks")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(integer=name != "pass_at_1"))
        if name in ("traceback_names_function", "trivial"):
            axes.set_xticks([0, 1], ["no", "yes"])
        elif name == "pass_at_1":
            axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
        if len(drawn) > 1:
            axes.legend()
    return Chart(name=name, figure=figure)


def _edges(name: str, values: Sequence[float]) -> Sequence[float]:
    """Return the ends of the bins: around each integer if there are few, else `NUM_BINS` alike."""
    low, high = min(values), max(values)
    if name == "pass_at_1":
        low, high, num = 0.0, 1.0, 10
    elif high - low < NUM_BINS:
        low, high, num = low - 0.5, high + 0.5, round(high - low) + 1
    else:
        num = NUM_BINS
    return [low + (high - low) * number / num for number in range(num + 1)]
