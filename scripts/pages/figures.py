"""The charts of a run, drawn once by matplotlib: inlined in its page, and as PNG and SVG files.

    chart = draw_tradeoff(summary["policies"])
    chart.inline(), chart.write(Path("runs/demo/report/figures"))

A file stands alone: it has a title and a white ground. In the page the same drawing takes colours
and type from the style sheet, so it serves light and dark, wide and narrow. Axes of curves start at
zero. Every chart carries its numbers in words for readers who cannot see it. Same numbers, same
bytes, for one matplotlib.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Bbox

SMOOTHING_STEPS: Final = 5
"""Steps that the bold curve averages over, centred."""
COLOURS: Final = {
    "paper": "#fbfaf7",
    "ink": "#1f2326",
    "soft": "#5d6468",
    "line": "#e3dfd6",
    "grid": "#ece8e0",
    "accent": "#0b6b68",
    "sft": "#a85d10",
    "base": "#70777c",
    "gold": "#8a7300",
    "careful": "#5a5fa8",
}
"""Variables of the page's style sheet, by their values in light; other values serve in dark. A
policy has the colour of its name; GRPO, the accent."""
STYLE: Final[dict[Any, Any]] = {
    "figure.dpi": 72,  # a unit of the page is a point here
    "font.size": 12,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 1.0,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "xtick.color": COLOURS["soft"],
    "xtick.major.size": 0,
    "xtick.major.pad": 10,
    "ytick.color": COLOURS["soft"],
    "ytick.major.size": 0,
    "ytick.major.pad": 8,
}
DOTS_PER_INCH: Final = 200
NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))
WALLS: Final = [
    Bbox.from_extents(*box)
    for box in ((-9e3, 0, 56, 380), (640, 0, 9e3, 380), (0, -9e3, 640, 48), (0, 370, 640, 9e3))
]
"""Where no label of the trade-off goes: beyond the axes; in points, from the lower left."""
INLINED: Final = (
    (r"^.*?(?=<svg)|<style.*?</style>|<clipPath.*?</clipPath>", ""),
    (r'<g id="(title|step)">.*?</g>', ""),  # the page has headings of its own
    (r' (xmlns|xmlns:xlink|version|width|height|clip-path)="[^"]*"', ""),
    (r' transform="rotate\(-0 [^"]*"|font-[^;]*; ', ""),
    (r'<path [^>]*style="fill: none"/>|<g id="[^"]*"/>|<defs>\s*</defs>', ""),
    (r'<g id="name">', '<g class="name">'),
    (r'<g id="[^"]*"', "<g"),
    # a marker gets the look of its places, which then need not repeat it
    (
        r'(<path id="m[^>]*?)( style="[^"]*")?(/>\s*</defs>\s*<g>\s*<use[^>]*)( style=[^/]*)',
        r"\1\4\3",
    ),
    (r'(<use [^>]*) style="[^"]*"', r"\1"),
    (r'(\.\d)\d\d+(?=[\s"])', r"\1"),
    (r"\s*\n\s*", " "),
)
"""What is changed in the SVG of matplotlib for a page: pattern and replacement, in this order."""


class Curve(NamedTuple):
    """A metric over steps.

    Args:
        name: Of the metric, and of the files, there with `_` for `/`.
        title: What it is called.
        meaning: What the number is, in a sentence.
        form: Formats a value for axis and words.
        ceiling: Top of the axis; None fits the values.
    """

    name: str
    title: str
    meaning: str
    form: Callable[[float], str] = "{:.3g}".format
    ceiling: float | None = None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart.

    Args:
        name: Of its files.
        figure: The drawing, made under `STYLE`.
        words: What it shows, for readers who cannot see it.
        curve: What it is a drawing of, if that is a curve.
    """

    name: str
    figure: Figure
    words: str = ""
    curve: Curve | None = None

    def inline(self) -> Markup:
        """Return it as an SVG element whose colours are the page's variables."""
        file = io.StringIO()
        self._save(file, kind="svg", transparent=True)
        svg = file.getvalue()
        for pattern, replacement in INLINED:
            svg = re.sub(pattern, replacement, svg, flags=re.DOTALL)
        for name, colour in COLOURS.items():
            svg = svg.replace(colour, f"var(--{name})")
        head = Markup('<svg role="img" aria-label="{}"').format(self.words)
        return head + Markup(svg.removeprefix("<svg"))

    def write(self, folder: Path, *, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
        """Write a file of each kind; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {kind: folder / f"{self.name}.{kind}" for kind in kinds}
        for kind, path in paths.items():
            self._save(path, kind=kind, bbox_inches="tight")
        return list(paths.values())

    def _save(self, file: Any, *, kind: str, **options: Any) -> None:
        metadata = {"Software": None} if kind == "png" else NO_METADATA
        with rc_context(STYLE | {"svg.hashsalt": self.name}):  # ids differ from chart to chart only
            self.figure.savefig(
                file, format=kind, dpi=DOTS_PER_INCH, metadata=metadata, pad_inches=0.15, **options
            )


def draw_curve(curve: Curve, points: Sequence[tuple[float, float]]) -> Chart:
    """Draw one value per step as dots with a moving average.

    Args:
        curve: What is drawn.
        points: (step, value), by step; steps without a value are simply not there.
    """
    steps, values = zip(*points, strict=True)
    smooth = moving_average(values)
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(
        0, curve.ceiling or max(values) or 1
    )
    with rc_context(STYLE):
        figure = Figure(figsize=(360 / 72, 200 / 72))
        axes: Any = figure.add_axes((50 / 360, 28 / 200, 298 / 360, 160 / 200))
        colour = {"color": COLOURS["accent"], "clip_on": False, "zorder": 3}
        axes.plot(steps, values, "o", **colour, alpha=0.35, markersize=4, markeredgewidth=0)
        axes.plot(steps, smooth, **colour, linewidth=2, solid_capstyle="round")
        axes.plot(steps[-1], smooth[-1], "o", **colour, markersize=7, markeredgewidth=0)
        axes.set_yticks(ticks, [curve.form(tick) for tick in ticks])
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.set(ylim=(0, ticks[-1]), xlim=(steps[0], max(steps[-1], steps[0] + 1)))
        axes.grid(visible=False, axis="x")
        axes.set_title(curve.title, gid="title")
        axes.set_xlabel("step", gid="step")
    first, last = (f"{curve.form(values[i])} at step {steps[i]:g}" for i in (0, -1))
    words = f"{curve.title} from {first} to {last}"
    return Chart(name=curve.name.replace("/", "_"), figure=figure, words=words, curve=curve)


def moving_average(values: Sequence[float]) -> list[float]:
    """Return the centred mean over `SMOOTHING_STEPS` values, fewer at the ends."""
    half = SMOOTHING_STEPS // 2
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [math.fsum(window) / len(window) for window in windows]


def draw_tradeoff(policies: Sequence[Mapping[str, Any]]) -> Chart:
    """Draw pass rate against tokens per solved (logarithmic), with 95 % intervals on both.

    A policy that solved nothing has no tokens per solved: it stands in a lane of its own on the
    right. An interval that is open above runs to that lane. An arrow leads from `sft` to `grpo`.

    Args:
        policies: Rows of `summary.json`, with a pass rate.
    """
    # scripted yardsticks first: their labels have the fewest places to go
    rows = sorted(policies, key=lambda row: row["name"] in ("base", "sft", "grpo"))
    with rc_context(STYLE):
        figure = Figure(figsize=(640 / 72, 380 / 72))
        plane, lane = _draw_axes(figure, rows)
        points = [_draw_policy(row, plane if _has_tokens(row) else lane) for row in rows]
        taken = [*WALLS, *(_around(point, 7) for point in points)]
        for axes in (plane, lane):  # their intervals, and what is between them
            taken += [line.get_paths()[0].get_extents(axes.transData) for line in axes.collections]
            taken.append(Bbox.from_extents(axes.bbox.x0, 0, axes.bbox.x0, 380))
        taken += _draw_arrow(rows, points, plane)
        for row, point in zip(rows, points, strict=True):
            _draw_label(_label(row), point, taken, plane)
    return Chart(name="tradeoff", figure=figure, words="; ".join(map(_in_words, rows)))


def _draw_axes(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """Return the plane, and the lane of policies that solved nothing (without any: the plane)."""
    ends = [(row["tokens_per_solved"], *(row["tokens_per_solved_ci95"] or ())) for row in rows]
    finite = [value for values in ends for value in values if value is not None]
    low, high = (min(finite) / 1.35, max(finite) * 1.35) if finite else (100.0, 1000.0)
    right = 616 if all(map(_has_tokens, rows)) else 524
    plane: Any = figure.add_axes((56 / 640, 48 / 380, (right - 56) / 640, 308 / 380))
    plane.set(xscale="log", xlim=(low, high), ylim=(0, 1))
    plane.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    subs = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    plane.xaxis.set_major_locator(LogLocator(subs=subs))
    # no number so far right that it runs into what the lane is called
    plane.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x < high / 1.1 else "")
    plane.minorticks_off()
    plane.set_xlabel("billed tokens per solved task (logarithmic)", labelpad=8)
    plane.text(0, 1.035, "pass rate", transform=plane.transAxes, color=COLOURS["soft"])
    plane.set_title("Pass rate against tokens", gid="title", pad=32)
    if right == 616:
        return plane, plane
    lane: Any = figure.add_axes((right / 640, 48 / 380, 92 / 640, 308 / 380), sharey=plane)
    lane.set(xlim=(0, 1), xticks=[0.5], xticklabels=["none solved"])
    lane.grid(visible=False)
    lane.set_facecolor("none")  # which the labels of the plane lie below
    lane.tick_params(labelleft=False)
    lane.spines["bottom"].set_visible(False)
    lane.spines["left"].set(visible=True, color=COLOURS["soft"], linestyle=(0, (2, 4)))
    return plane, lane


def _draw_policy(row: Mapping[str, Any], axes: Any) -> tuple[float, float]:
    """Draw one policy with its 95 % intervals; returns its place in points."""
    tokens, pass_rate = row["tokens_per_solved"], row["pass_rate"]
    colour = COLOURS.get({"grpo": "accent"}.get(row["name"], row["name"]), COLOURS["soft"])
    whisker = {"color": colour, "alpha": 0.55, "linewidth": 1.75, "clip_on": False}
    x = tokens if _has_tokens(row) else 0.5
    axes.vlines(x, *row["pass_rate_ci95"], **whisker)
    if _has_tokens(row):
        low, high = row["tokens_per_solved_ci95"] or (None, None)
        edge = axes.get_xlim()[1]  # where an interval ends that is open above
        axes.hlines(
            pass_rate, tokens if low is None else low, edge if high is None else high, **whisker
        )
    fill = COLOURS["paper"] if is_greedy(row) else colour
    look = {"color": colour, "markerfacecolor": fill, "markersize": 12, "markeredgewidth": 2}
    axes.plot(x, pass_rate, "o", **look, clip_on=False, zorder=3)
    place: tuple[float, float] = tuple(axes.transData.transform((x, pass_rate)))
    return place


def _draw_arrow(
    rows: Sequence[Mapping[str, Any]], points: Sequence[tuple[float, float]], axes: Any
) -> list[Bbox]:
    """Draw an arrow from sft to grpo if there is room for one; returns what it covers."""
    ends = {
        row["name"]: point
        for row, point in zip(rows, points, strict=True)
        if _has_tokens(row) and not is_greedy(row)
    }
    if not {"sft", "grpo"} <= ends.keys() or math.dist(ends["sft"], ends["grpo"]) < 40:
        return []
    (x1, y1), (x2, y2) = ends["sft"], ends["grpo"]
    head = {"arrowstyle": "-|>,head_length=7,head_width=3.5", "mutation_scale": 1}
    look = {"color": COLOURS["soft"], "linewidth": 1.25, "shrinkA": 11, "shrinkB": 11}
    axes.annotate("", (x2, y2), (x1, y1), xycoords="figure points", arrowprops=head | look)
    return [_around((x1 + i / 12 * (x2 - x1), y1 + i / 12 * (y2 - y1)), 7) for i in range(13)]


def _draw_label(name: str, point: tuple[float, float], taken: list[Bbox], axes: Any) -> None:
    """Put a name beside its point where it covers least of what is there already."""
    (x, y), wide = point, 7.6 * len(name)
    places = [(12, 7), (12, -23), (-12 - wide, 7), (-12 - wide, -23), (12, -39), (12, 23)]
    boxes = [Bbox.from_bounds(x + dx, y + dy, wide, 15) for dx, dy in places]
    box = min(boxes, key=lambda box: box.count_overlaps(taken))
    taken.append(box)
    # anchored at the point's side, so that larger type grows away from it
    anchor, side = (box.x1, "right") if box.x0 < x else (box.x0, "left")
    look = {"color": COLOURS["ink"], "fontsize": 13, "fontweight": "bold", "gid": "name"}
    axes.annotate(name, (anchor, box.y0 + 3), xycoords="figure points", ha=side, **look)


def _around(point: tuple[float, float], reach: float) -> Bbox:
    x, y = point
    return Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)


def _has_tokens(row: Mapping[str, Any]) -> bool:
    return row["tokens_per_solved"] is not None


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['name']} (greedy)" if is_greedy(row) else str(row["name"])


def is_greedy(row: Mapping[str, Any]) -> bool:
    """Tell whether a row of `summary.json` is of the likeliest tokens."""
    return "greedy" in str(row.get("sampling", ""))


def _in_words(row: Mapping[str, Any]) -> str:
    tokens = (
        f"{row['tokens_per_solved']:,.0f} tokens per solved" if _has_tokens(row) else "none solved"
    )
    return f"{_label(row)}: {100 * row['pass_rate']:.0f} % solved, {tokens}"
