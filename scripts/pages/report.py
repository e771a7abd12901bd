"""Makes one self-contained HTML page from the files of a run, and from nothing else.

    build_report(Path("runs/demo"), Path("runs/demo/report/index.html"))

Stages that have not run yet are named as such; a page can be made at any time, also while training
runs. No scripts, no network, no fonts: it can be mailed, archived and opened from a disk.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError
from tokenizers import Tokenizer

from envs.errors import UserError
from envs.files import read_records, read_rows, write_whole
from envs.records import Episode
from rewards.intervals import Estimate, share_of_the_way
from rewards.metrics import compare
from tightrope_cli.pages.episodes import Decode, best_and_worst, most_shortened
from tightrope_cli.pages.figures import PolicyPoint, line_chart, tradeoff_plot

Row = Mapping[str, Any]

STAGES: Final = {"sft": "warm start", "grpo": "reinforcement learning", "evaluate": "evaluation"}
NUM_SHOWN: Final = 3
"""Episodes shown of each kind."""
REASONS: Final = (
    "solved",
    "submitted",
    "turn_limit",
    "token_limit",
    "context_overflow",
    "no_tool_call",
    "timeout",
    "environment_error",
)
"""Order of the parts in a bar of stop reasons; `submitted` is what was submitted and not solved."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One learning curve: a name for files, (step, value) pairs, and what the number means."""

    name: str
    title: str
    meaning: str
    points: Sequence[tuple[float, float]]
    form: Callable[[float], str]
    ceiling: float | None = None

    @property
    def figure(self) -> Markup | None:
        """The chart for the page; None without data."""
        if not self.points:
            return None
        return line_chart(self.points, title=self.title, form=self.form, ceiling=self.ceiling)


def build_report(run_dir: Path, out: Path, *, decode: Decode | None = None) -> Path:
    """Write the page of one run.

    Args:
        run_dir: runs/NAME, which holds a folder per stage.
        out: The HTML file to write.
        decode: Token ids to text; None looks for a tokenizer in the run, and without one the parsed
            calls are shown instead of the sampled text.

    Returns:
        `out`.

    Raises:
        UserError: There is no such run, or one of its files was written by another version.
    """
    if not run_dir.is_dir():
        remedy = "start with `accelerate launch train/sft.py --config FILE`"
        raise UserError("there is no run to report on", got=str(run_dir), remedy=remedy)
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    pages.filters |= {"count": _count, "share": _share, "decimal": _decimal, "interval": _interval}
    html = pages.get_template("report.html.j2").render(
        page_context(run_dir, decode=decode or _find_decoder(run_dir))
    )
    write_whole(out, html)
    return out


def page_context(run_dir: Path, *, decode: Decode | None) -> dict[str, Any]:
    """Read the run and return everything the template names."""
    summary = _read_json(run_dir / "evaluate" / "summary.json")
    policies = _policies(summary)
    evaluated = {
        path.stem: read_episodes(path)
        for path in sorted((run_dir / "evaluate" / "episodes").glob("*.jsonl"))
    }
    shown, origin = _episodes_to_show(run_dir, evaluated)
    best, worst = best_and_worst(shown, count=NUM_SHOWN, decode=decode)
    before, after = evaluated.get("sft", []), evaluated.get("grpo", [])
    return {
        "name": run_dir.name,
        "config": _read_config(run_dir),
        "stages": {title: (run_dir / stage).is_dir() for stage, title in STAGES.items()},
        "policies": policies,
        "headline": {row["name"]: row for row in policies if not _is_greedy(row)},
        "tradeoff": tradeoff_plot(_points(policies)) if policies else None,
        "bars": [_stop_bar(row) for row in policies],
        "written": [row for row in map(_written_calls, policies) if row["text"]],
        "reasons": REASONS,
        "comparison": _comparison(summary, before, after),
        "gap": share_of_the_way(before, after, evaluated.get("gold", [])),
        "curves": _grpo_curves(read_metrics(run_dir / "grpo" / "metrics.jsonl")),
        "unscorable": unscorable_parts(read_metrics(run_dir / "grpo" / "metrics.jsonl")),
        "warm_start": _sft_curve(read_metrics(run_dir / "sft" / "metrics.jsonl")),
        "pairs": most_shortened(before, after, count=NUM_SHOWN, decode=decode),
        "best": best,
        "worst": worst,
        "origin": origin,
        "decoded": decode is not None,
    }


def learning_curves(run_dir: Path) -> list[Curve]:
    """Return the curves of both training stages; one without data has no points."""
    return [
        *_grpo_curves(read_metrics(run_dir / "grpo" / "metrics.jsonl")),
        _sft_curve(read_metrics(run_dir / "sft" / "metrics.jsonl")),
    ]


def policy_points(run_dir: Path) -> list[PolicyPoint]:
    """Return the evaluated policies as points of the trade-off plot."""
    return _points(_policies(_read_json(run_dir / "evaluate" / "summary.json")))


def unscorable_parts(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many training episodes failed for reasons of the machine, by what failed."""
    counts: Counter[str] = Counter()
    for row in rows:
        for name, value in row.items():
            if name.startswith("unscorable/") and value:
                counts[name.removeprefix("unscorable/").replace("_", " ")] += round(value)
    return dict(counts)


def read_metrics(path: Path) -> list[Row]:
    """Read one JSON object per line; a last line cut short by a running stage is left out."""
    return [*read_rows(path)]


def read_episodes(path: Path) -> list[Episode]:
    """Read one episode per line.

    Raises:
        UserError: A line is not an episode of this version.
    """
    try:
        return read_records(path, Episode)
    except ValidationError as error:
        problem = error.errors()[0]
        got = f"{'.'.join(map(str, problem['loc'])) or 'the line'}: {problem['msg']}"
        remedy = f"run the stage that wrote it again: {path.parent.parent.name}"
        raise UserError(
            f"{path} holds no episodes of this version", got=got, remedy=remedy
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _read_config(run_dir: Path) -> dict[str, Any]:
    """Return the resolved settings of the latest stage that has some."""
    for stage in reversed(STAGES):
        path = run_dir / stage / "config.yaml"
        if path.is_file():
            found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
            return found
    return {}


def _find_decoder(run_dir: Path) -> Decode | None:
    paths = sorted(run_dir.rglob("tokenizer.json"), key=lambda path: (len(path.parts), path))
    if not paths:
        return None
    tokenizer = Tokenizer.from_file(str(paths[0]))

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False))

    return decode


def _episodes_to_show(
    run_dir: Path, evaluated: Mapping[str, list[Episode]]
) -> tuple[list[Episode], str]:
    for policy in ("grpo", "sft"):
        if evaluated.get(policy):
            return evaluated[policy], f"the evaluation of {policy} on held-out tasks"
    steps = sorted((run_dir / "grpo" / "episodes").glob("step_*.jsonl"))
    if steps:
        number = int(steps[-1].stem.removeprefix("step_"))
        return read_episodes(
            steps[-1]
        ), f"training step {number}, because evaluation has not run yet"
    return [], ""


def _policies(summary: Row) -> list[dict[str, Any]]:
    return [_complete(row) for row in summary.get("policies", [])]


def _complete(row: Row) -> dict[str, Any]:
    """Fill in fields that an older summary may lack."""
    return {"sampling": "", "num_unscorable": 0, "unscorable": {}, "segments_mean": None, **row}


def _is_greedy(row: Row) -> bool:
    return "greedy" in str(row["sampling"])


def _points(policies: Sequence[Row]) -> list[PolicyPoint]:
    """Return scripted yardsticks first: their labels have the fewest places to go."""
    ordered = sorted(policies, key=lambda row: row["name"] in ("base", "sft", "grpo"))
    return [
        PolicyPoint(
            name=f"{row['name']} (greedy)" if _is_greedy(row) else row["name"],
            kind=row["name"],
            hollow=_is_greedy(row),
            pass_rate=row["pass_rate"],
            pass_rate_ci95=tuple(row["pass_rate_ci95"]),
            tokens=row["tokens_per_solved"],
            tokens_ci95=tuple(row["tokens_per_solved_ci95"] or (None, None)),
        )
        for row in ordered
        if row["pass_rate"] is not None
    ]


def _stop_bar(row: Row) -> dict[str, Any]:
    """Split `submitted` into solved and not, and add what this page has no name for at the end."""
    counts = dict(row["stop_reasons"])
    solved = round((row["pass_rate"] or 0.0) * row["num_samples"])
    counts["submitted"] = max(counts.get("submitted", 0) - solved, 0)
    counts["solved"] = solved
    names = [*REASONS, *sorted(counts.keys() - set(REASONS))]
    total = max(sum(counts.values()), 1)
    parts = [
        {"reason": name, "count": counts[name], "percent": 100 * counts[name] / total}
        for name in names
        if counts.get(name)
    ]
    return {"name": row["name"], "sampling": row["sampling"], "total": total, "parts": parts}


def _written_calls(row: Row) -> dict[str, str]:
    """Say how a policy wrote its calls, nothing where all are Hermes calls without a fault."""
    counts = row.get("calls", {})  # an older summary has none
    total = sum(num for name, num in counts.items() if name not in ("malformed", "mended"))
    shown = {name: num for name, num in counts.items() if num}
    is_plain = set(shown) <= {"hermes"}
    parts = [f"{name} {_share(num / total)}" for name, num in shown.items()]
    text = "" if is_plain else ", ".join(parts)
    return {"name": row["name"], "sampling": row["sampling"], "text": text}


def _comparison(
    summary: Row, before: Sequence[Episode], after: Sequence[Episode]
) -> dict[str, Any] | None:
    """Return sft against grpo as the evaluation wrote it, or worked out from its episodes."""
    for entry in summary.get("comparisons", []):
        if (entry.get("first"), entry.get("second")) == ("sft", "grpo"):
            return dict(entry)
    if before and after:
        return compare(before, after, first_name="sft", second_name="grpo")
    return None


def _grpo_curves(rows: Sequence[Row]) -> list[Curve]:
    def curve(
        key: str,
        title: str,
        meaning: str,
        form: Callable[[float], str],
        ceiling: float | None = None,
    ) -> Curve:
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        return Curve(
            name=key, title=title, meaning=meaning, points=points, form=form, ceiling=ceiling
        )

    return [
        curve(
            "pass_rate", "Pass rate", "Share of the step's episodes that were solved.", _share, 1
        ),
        curve(
            "tokens_per_solved",
            "Tokens per solved task",
            "Billed tokens of all episodes, failed ones included, over the number solved.",
            _count,
        ),
        curve(
            "peak_context",
            "Peak context",
            "Tokens of the largest view of an episode, mean over the step.",
            _count,
        ),
        curve(
            "segments_per_episode",
            "Segments per episode",
            "One plus the times the context was rewritten by evict or compact.",
            "{:.3g}".format,
        ),
        curve(
            "entropy",
            "Entropy",
            "Uncertainty of the policy per sampled token, in nats. Near zero it explores no more.",
            "{:.3g}".format,
        ),
        curve(
            "share_groups_without_signal",
            "Groups without signal",
            "Share of groups in which every advantage is zero: nothing to learn from.",
            _share,
            1,
        ),
    ]


def _sft_curve(rows: Sequence[Row]) -> Curve:
    points = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]
    meaning = "Cross-entropy per sampled token of the demonstrations, in nats."
    return Curve(
        name="warm_start_loss",
        title="Warm start loss",
        meaning=meaning,
        points=points,
        form="{:.3g}".format,
    )


def _count(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "\u2013" if value is None else f"{100 * value:.0f} %"


def _decimal(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}"


def _interval(ends: Sequence[float | None] | Estimate, form: str) -> str:
    """Return '12 to 15'; an end that is None is open."""
    show = {"count": _count, "share": _share, "decimal": _decimal}[form]
    low, high = ends.ci95 if isinstance(ends, Estimate) else ends or (None, None)
    if low is None and high is None:
        return ""
    if high is None:
        return f"from {show(low)}, open above"
    return f"{show(low)} to {show(high)}"
