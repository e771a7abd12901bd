"""Charts as small inline SVG: learning curves, pass rate against tokens, context held per turn.

Made by hand rather than by a plotting library, so that colours and type come from the page's style
sheet: one figure then serves light and dark, wide and narrow, and weighs a few kilobytes. Axes of
curves start at zero. Every figure carries its numbers in words for readers who cannot see it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

SMOOTHING_STEPS: Final = 5
"""Steps that the bold curve averages over, centred."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class PolicyPoint:
    """One policy on the plot of pass rate against tokens; None where a value is undefined."""

    name: str
    kind: str
    hollow: bool
    pass_rate: float
    pass_rate_ci95: tuple[float, float]
    tokens: float | None
    tokens_ci95: tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class Held:
    """Tokens in the context at one turn; `rewritten` if the context was rewritten before it."""

    cached: int
    new: int
    sampled: int
    rewritten: bool


def line_chart(
    points: Sequence[tuple[float, float]],
    *,
    title: str,
    form: Callable[[float], str],
    ceiling: float | None = None,
) -> Markup:
    """Draw one value per step as dots with a moving average.

    Args:
        points: (step, value), by step; steps without a value are simply not there.
        title: What is drawn, for the description.
        form: Formats a value for axis and description.
        ceiling: Top of the axis; None fits the values.
    """
    width, height, left, right, top, bottom = 360, 200, 50, 12, 12, 28
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_ticks = _ticks(0.0, ceiling or max(*ys, 1e-9))
    high = ceiling or max(y_ticks[-1], *ys)
    span = max(xs[-1] - xs[0], 1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (x - xs[0]) / span * (width - left - right)
        return across, height - bottom - y / high * (height - top - bottom)

    body = [_y_axis(y_ticks, lambda y: place(0, y)[1], form, left=left, right=width - right)]
    for tick in _steps(xs[0], xs[-1]):
        across, floor = place(tick, 0)
        body.append(_text(across, floor + 18, f"{tick:,.0f}", anchor="middle"))
    body += [_circle(*place(x, y), 2, "dot") for x, y in points]
    smooth = [place(x, y) for x, y in zip(xs, moving_average(ys), strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in smooth)
    body.append(Markup('<polyline class="curve" points="{}"/>').format(path))
    body.append(_circle(*smooth[-1], 3.5, "end"))
    said = f"{title} from {form(ys[0])} at step {xs[0]:g} to {form(ys[-1])} at step {xs[-1]:g}"
    return _svg(width, height, said, body)


def moving_average(values: Sequence[float]) -> list[float]:
    """Return the centred mean over `SMOOTHING_STEPS` values, fewer at the ends."""
    half = SMOOTHING_STEPS // 2
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [math.fsum(window) / len(window) for window in windows]


def tradeoff_plot(points: Sequence[PolicyPoint]) -> Markup:
    """Draw pass rate against tokens per solved (logarithmic), with 95 % intervals on both.

    A policy that solved nothing has no tokens per solved: it stands in a lane of its own on the
    right. An interval that is open above runs to that lane. An arrow leads from `sft` to `grpo`.
    """
    width, height, left, top, bottom = 640, 380, 56, 24, 48
    lane = 92 if any(point.tokens is None for point in points) else 0
    right = 24 + lane
    finite = [v for p in points for v in (p.tokens, *p.tokens_ci95) if v is not None]
    low, high = (min(finite) / 1.35, max(finite) * 1.35) if finite else (100.0, 1000.0)
    edge = float(width - right)

    def across(tokens: float | None) -> float:
        if tokens is None:
            return edge + lane / 2
        return left + math.log(tokens / low) / math.log(high / low) * (edge - left)

    def up(rate: float) -> float:
        return height - bottom - rate * (height - top - bottom)

    body = [_y_axis([0, 0.25, 0.5, 0.75, 1.0], up, _percent, left=left, right=edge)]
    for tick in _log_ticks(low, high):
        x = across(tick)
        body.append(_line((x, top, x, up(0)), "grid"))
        body.append(_text(x, up(0) + 20, f"{tick:,.0f}", anchor="middle"))
    if lane:
        body.append(_line((edge, top - 8, edge, up(0)), "lane"))
        body.append(_text(edge + lane / 2, up(0) + 20, "none solved", anchor="middle"))
    caption = "billed tokens per solved task (logarithmic)"
    body.append(_text((left + edge) / 2, height - 6, caption, anchor="middle", css="axis"))
    body.append(_text(left, top - 10, "pass rate", css="axis"))
    centres = [(across(p.tokens), up(p.pass_rate)) for p in points]
    arrow = _arrow_ends(points, centres)
    body += _arrow(arrow) if arrow else []
    for point, centre in zip(points, centres, strict=True):
        body += _whiskers(point, centre, across=across, up=up, edge=edge)
    marks = [*centres, *(_along(arrow) if arrow else [])]
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in marks]
    taken += [(edge - 3, top, edge + 3, up(0))] if lane else []
    for point, (x, y) in zip(points, centres, strict=True):
        body.append(_circle(x, y, 6, f"point {point.kind}{' hollow' if point.hollow else ''}"))
        body.append(_label(point.name, x, y, taken, bounds=(left, top, width, height - bottom)))
    return _svg(width, height, "; ".join(map(_in_words, points)), body)


def held_chart(turns: Sequence[Held], *, window: int, top_tokens: int, label: str) -> Markup:
    """Draw the context held at each turn as one column: cached, new and sampled tokens.

    `top_tokens` is the top of the axis, so that two episodes can share a scale; the dashed line is
    the window, and a tick below a column means the context was rewritten before it.
    """
    slot, height, top = 22, 96, 8
    width = max(slot * len(turns) + 8, 60)
    scale = (height - top - 12) / max(top_tokens, 1)
    floor = float(height - 12)
    body = [_line((0, floor - window * scale, width, floor - window * scale), "window")]
    for index, turn in enumerate(turns):
        x, y = 4 + index * slot, floor
        for amount, css in ((turn.cached, "cached"), (turn.new, "new"), (turn.sampled, "sampled")):
            tall = amount * scale
            y -= tall
            body.append(_rect((x, y, slot - 4, tall), css))
        if turn.rewritten:
            body.append(_line((x - 2, top, x - 2, height - 2), "cut"))
    body.append(_line((0, floor, width, floor), "base"))
    totals = ", ".join(str(turn.cached + turn.new + turn.sampled) for turn in turns)
    said = f"{label}: tokens held per turn {totals}; window {window}"
    return _svg(width, height, said, body, fixed=True)


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"


def _in_words(point: PolicyPoint) -> str:
    tokens = f"{point.tokens:,.0f} tokens per solved" if point.tokens else "none solved"
    return f"{point.name}: {_percent(point.pass_rate)} solved, {tokens}"


def _arrow_ends(
    points: Sequence[PolicyPoint], centres: Sequence[tuple[float, float]]
) -> Box | None:
    """Return where the arrow from sft to grpo starts and ends; None if there is no room for one."""
    ends = {p.kind: c for p, c in zip(points, centres, strict=True) if not p.hollow and p.tokens}
    if "sft" not in ends or "grpo" not in ends:
        return None
    (x1, y1), (x2, y2) = ends["sft"], ends["grpo"]
    length = math.hypot(x2 - x1, y2 - y1)
    if length < 40:
        return None
    gap_x, gap_y = 11 * (x2 - x1) / length, 11 * (y2 - y1) / length
    return x1 + gap_x, y1 + gap_y, x2 - gap_x, y2 - gap_y


def _arrow(ends: Box) -> list[Markup]:
    x1, y1, x2, y2 = ends
    length = math.hypot(x2 - x1, y2 - y1)
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    wings = [(x2 - 8 * dx + side * 4 * dy, y2 - 8 * dy - side * 4 * dx) for side in (1, -1)]
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x2, y2), *wings))
    shaft = _line((x1, y1, x2 - 6 * dx, y2 - 6 * dy), "arrow")
    return [shaft, Markup('<polygon class="arrowhead" points="{}"/>').format(head)]


def _along(ends: Box) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = ends
    return [(x1 + i / 12 * (x2 - x1), y1 + i / 12 * (y2 - y1)) for i in range(13)]


def _whiskers(
    point: PolicyPoint,
    centre: tuple[float, float],
    *,
    across: Callable[[float | None], float],
    up: Callable[[float], float],
    edge: float,
) -> list[Markup]:
    x, y = centre
    css = f"whisker {point.kind}"
    lines = [_line((x, up(point.pass_rate_ci95[0]), x, up(point.pass_rate_ci95[1])), css)]
    if point.tokens is not None:
        low, high = point.tokens_ci95
        start = x if low is None else across(low)
        lines.append(_line((start, y, edge if high is None else across(high), y), css))
    return lines


def _label(name: str, x: float, y: float, taken: list[Box], *, bounds: Box) -> Markup:
    """Put a name beside its point where it covers nothing that is there already."""
    wide = 7.6 * len(name)
    places = [(12, -10), (12, 20), (-12 - wide, -10), (-12 - wide, 20), (12, 36), (12, -26)]
    boxes = [(x + dx, y + dy - 12, x + dx + wide, y + dy + 3) for dx, dy in places]
    free = (box for box in boxes if _inside(box, bounds) and not any(_meet(box, t) for t in taken))
    box = next(free, boxes[0])
    taken.append(box)
    if box[0] < x:  # anchored at the point's side, so that larger type grows away from it
        return _text(box[2], box[3] - 3, name, anchor="end", css="name")
    return _text(box[0], box[3] - 3, name, css="name")


def _inside(box: Box, bounds: Box) -> bool:
    over = box[0] >= bounds[0] and box[1] >= bounds[1] - 14
    return over and box[2] <= bounds[2] and box[3] <= bounds[3]


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Return round values (1, 2, 2.5 or 5 times a power of ten) from `low` to at least `high`."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    count = math.ceil((high - low) / step - 1e-9)
    return [low + i * step for i in range(count + 1)]


def _steps(low: float, high: float) -> list[float]:
    if high - low < 1:
        return [low]
    inner = _ticks(0.0, high, about=5)
    kept = [tick for tick in inner if low <= tick <= high and tick == round(tick)]
    return kept if len(kept) > 1 else [low, high]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ticks = [m * 10.0**p for p in powers for m in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _y_axis(
    ticks: Iterable[float],
    up: Callable[[float], float],
    form: Callable[[float], str],
    *,
    left: float,
    right: float,
) -> Markup:
    parts = []
    for tick in ticks:
        parts.append(_line((left, up(tick), right, up(tick)), "base" if tick == 0 else "grid"))
        parts.append(_text(left - 8, up(tick) + 4, form(tick), anchor="end"))
    return Markup("").join(parts)


def _svg(
    width: float, height: float, said: str, body: Iterable[Markup], *, fixed: bool = False
) -> Markup:
    size = Markup(' width="{:g}" height="{:g}"').format(width, height) if fixed else Markup("")
    return Markup('<svg viewBox="0 0 {:g} {:g}"{} role="img" aria-label="{}">{}</svg>').format(
        width, height, size, said, Markup("").join(body)
    )


def _line(ends: Box, css: str) -> Markup:
    x1, y1, x2, y2 = (f"{value:.1f}" for value in ends)
    line = '<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>'
    return Markup(line).format(css, x1, y1, x2, y2)


def _rect(box: Box, css: str) -> Markup:
    x, y, width, height = (f"{value:.1f}" for value in box)
    rect = '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>'
    return Markup(rect).format(css, x, y, width, height)


def _circle(x: float, y: float, radius: float, css: str) -> Markup:
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(css, x, y, radius)


def _text(x: float, y: float, text: str, *, anchor: str = "start", css: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        css, x, y, anchor, escape(text)
    )
