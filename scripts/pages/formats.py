"""How the page writes numbers; a dash stands for one that is undefined."""

from collections.abc import Sequence

from rewards.intervals import Estimate


def count(value: float | None) -> str:
    """Return '12,345'."""
    return "\u2013" if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """Return '12 %' of 0.123."""
    return "\u2013" if value is None else f"{100 * value:.0f} %"


def decimal(value: float | None) -> str:
    """Return '1.23'."""
    return "\u2013" if value is None else f"{value:.2f}"


def interval(ends: Sequence[float | None] | Estimate | None, form: str) -> str:
    """Return '12 to 15' in the form of that name; an end that is None is open."""
    show = {"count": count, "share": share, "decimal": decimal}[form]
    low, high = ends.ci95 if isinstance(ends, Estimate) else ends or (None, None)
    if low is None and high is None:
        return ""
    if high is None:
        return f"from {show(low)}, open above"
    return f"{show(low)} to {show(high)}"
