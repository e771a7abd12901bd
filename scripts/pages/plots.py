"""The report's charts once more as PNG and SVG files, for slides and papers.

    write_figures(Path("runs/demo"), Path("runs/demo/report/figures"))

The page draws its own (`scripts/pages/figures.py`), because those follow its style sheet; these are
matplotlib's, stand alone and have a white ground. Same files, same bytes, for one matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tightrope_cli.pages.figures import PolicyPoint, moving_average
from tightrope_cli.pages.report import Curve, learning_curves, policy_points

DOTS_PER_INCH: Final = 200
STYLE: Final[dict[Any, Any]] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#ece8e0",
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "font.size": 9,
    "legend.frameon": False,
    "xtick.minor.pad": 5.0,  # minor labels of a logarithmic axis on a line with the major ones
    "svg.hashsalt": "tightrope",  # ids in the file would differ from run to run otherwise
}
LOOKS: Final = {  # the page's colours, and a shape for readers who see no colours
    "base": ("#70777c", "s"),
    "sft": ("#a85d10", "o"),
    "grpo": ("#0b6b68", "D"),
    "gold": ("#8a7300", "^"),
    "careful": ("#5a5fa8", "v"),
}
OTHER: Final = ("#1f2326", "P")


def write_figures(run_dir: Path, folder: Path) -> list[Path]:
    """Write every chart that the run has numbers for; returns the files."""
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figures = {curve.name: _curve(curve) for curve in learning_curves(run_dir) if curve.points}
        points = policy_points(run_dir)
        if points:
            figures["tradeoff"] = _tradeoff(points)
        for name, figure in figures.items():
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                path = folder / f"{name}.{kind}"
                figure.savefig(path, dpi=DOTS_PER_INCH, metadata=metadata)
                written.append(path)
    return written


def _curve(curve: Curve) -> Figure:
    figure = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = figure.subplots()
    steps, values = zip(*curve.points, strict=True)
    colour = LOOKS["grpo"][0]
    axes.plot(steps, values, "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
    axes.plot(steps, moving_average(values), color=colour, linewidth=1.8)
    axes.set(title=curve.title, xlabel="step")
    axes.set_ylim(bottom=0, top=curve.ceiling)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: curve.form(value)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _tradeoff(points: Sequence[PolicyPoint]) -> Figure:
    """Draw pass rate against tokens per solved; a lane of its own holds who solved nothing."""
    figure = Figure(figsize=(6.8, 3.8), layout="constrained")
    unsolved = any(point.tokens is None for point in points)
    lanes = figure.subplots(
        1, 2 if unsolved else 1, sharey=True, width_ratios=[6, 1][: 1 + unsolved], squeeze=False
    )[0]
    plane: Any = lanes[0]
    plane.set_xscale("log")
    finite = [v for p in points for v in (p.tokens, *p.tokens_ci95) if v is not None]
    low, high = (min(finite) / 1.35, max(finite) * 1.35) if finite else (100.0, 1000.0)
    plane.set(
        title="Pass rate against tokens",
        xlabel="billed tokens per solved task",
        ylabel="pass rate",
        xlim=(low, high),
        ylim=(-0.03, 1.03),
    )
    plane.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.0%}"))
    for axis in (plane.xaxis.set_major_formatter, plane.xaxis.set_minor_formatter):
        axis(FuncFormatter(_few_ticks))
    if unsolved:
        lanes[1].set(xlim=(0, 1), xticks=[0.5], xticklabels=["none\nsolved"])
        lanes[1].tick_params(left=False)
    for point in points:
        _place(lanes, point, edge=high)
    handles = [artist for lane in lanes for artist in lane.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside right center")
    return figure


def _place(lanes: Sequence[Any], point: PolicyPoint, *, edge: float) -> None:
    """Draw one policy with its 95 % intervals; an interval that is open above runs to `edge`."""
    colour, shape = LOOKS.get(point.kind, OTHER)
    lane = lanes[0] if point.tokens is not None else lanes[-1]
    x, y = (point.tokens if point.tokens is not None else 0.5), point.pass_rate
    bars = {"color": colour, "alpha": 0.55, "linewidth": 1.4, "zorder": 2}
    lane.vlines(x, *point.pass_rate_ci95, **bars)
    if point.tokens is not None:
        low, high = point.tokens_ci95
        lane.hlines(y, x if low is None else low, edge if high is None else high, **bars)
    fill = "white" if point.hollow else colour
    lane.plot(
        x, y, shape, color=colour, markerfacecolor=fill, markersize=7, label=point.name, zorder=3
    )


def _few_ticks(value: float, _: Any) -> str:
    return f"{value:,.0f}" if f"{value:.0e}"[0] in "125" else ""
