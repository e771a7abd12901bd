"""Makes one self-contained HTML page from the files of a run, and from nothing else.

    build_report(Path("runs/demo"), Path("runs/demo/report/index.html"))

Stages that have not run yet are named as such; a page can be made at any time, also while training
runs. No scripts, no network, no fonts: it can be mailed, archived and opened from a disk.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tokenizers import Tokenizer

from envs.files import write_whole
from envs.records import Episode, StopReason
from rewards.cost import billed_tokens, num_compactions, num_evictions, peak_context
from rewards.intervals import share_of_the_way
from rewards.metrics import compare
from rewards.outcome import is_solved
from tightrope_cli.pages.episodes import (
    Decode,
    best_and_worst,
    capped,
    ending,
    how_read,
    most_shortened,
)
from tightrope_cli.pages.figures import COLOURS, Chart, Curve, draw_curve, draw_tradeoff, is_greedy
from tightrope_cli.pages.formats import count, decimal, interval, share
from train.stages.run_dir import Stage, StageDir, stage_in

Row = Mapping[str, Any]

DISCIPLINE: Final = {
    "read_precision": ("Read precision", share),
    "read_recall": ("Needed lines read", share),
    "over_read": ("Over-read", decimal),
    "wasted_read_share": ("Wasted reads", share),
    "reread_accidental": ("Re-read in view", share),
    "reread_by_pointer": ("Re-read by pointer", share),
    "planned": ("Planned first", share),
    "read_lines_share": ("Reads by lines", share),
    "peak_fill": ("Peak of window", share),
    "compaction_fill": ("Fill when compacting", share),
    "compaction_ratio": ("Left by compacting", share),
    "fact_use": ("Facts used later", share),
    "pass_rate_needs_rewrite": ("Pass rate, rewrite needed", share),
    "context_actions_needs_rewrite": ("Context actions, rewrite needed", decimal),
    "pass_rate_elsewhere": ("Pass rate elsewhere", share),
    "context_actions_elsewhere": ("Context actions elsewhere", decimal),
}
"""Columns of the table of discipline: head and form."""
STAGES: Final[dict[Stage, str]] = {
    "sft": "warm start",
    "grpo": "reinforcement learning",
    "evaluate": "evaluation",
}
NUM_SHOWN: Final = 3
"""Episodes shown of each kind."""
REASONS: Final = ("solved", *(reason.value for reason in StopReason))
"""Order of the parts in a bar of stop reasons; `submitted` is what was submitted and not solved."""

FORMS: Final = (capped, count, decimal, interval, share)
FACTS: Final = (billed_tokens, ending, is_solved, num_compactions, num_evictions, peak_context)
CURVES: Final = (
    Curve("pass_rate", "Pass rate", "Share of the step's episodes that were solved.", share, 1),
    Curve(
        "tokens_per_solved",
        "Tokens per solved task",
        "Billed tokens of all episodes, failed ones included, over the number solved.",
        count,
    ),
    Curve(
        "peak_context",
        "Peak context",
        "Tokens of the largest view of an episode, mean over the step.",
        count,
    ),
    Curve(
        "segments_per_episode",
        "Segments per episode",
        "One plus the times the context was rewritten by evict or compact.",
    ),
    Curve(
        "discipline/read_precision",
        "Read precision",
        "Share of the lines shown by reads that the repair needs, mean over episodes.",
        share,
        1,
    ),
    Curve(
        "discipline/context_actions_needs_rewrite",
        "Context actions where a rewrite is needed",
        "Notes, evictions and compactions per episode in windows that no reader gets by in.",
    ),
    Curve(
        "discipline/context_actions_elsewhere",
        "Context actions elsewhere",
        "The same in windows that need no rewrite.",
    ),
    Curve(
        "entropy",
        "Entropy",
        "Uncertainty of the policy per sampled token, in nats. Near zero it explores no more.",
    ),
    Curve(
        "share_groups_without_signal",
        "Groups without signal",
        "Share of groups in which every advantage is zero: nothing to learn from.",
        share,
        1,
    ),
)
"""Of GRPO, by the metric."""
WARM_START: Final = Curve(
    "warm_start_loss",
    "Warm start loss",
    "Cross-entropy per sampled token of the demonstrations, in nats.",
)


def build_report(
    run_dir: Path, out: Path, *, decode: Decode | None = None, figures: Path | None = None
) -> Path:
    """Write the page of one run.

    Args:
        run_dir: runs/NAME, which holds a folder per stage.
        out: The HTML file to write.
        decode: Token ids to text; None looks for a tokenizer in the run, and without one the parsed
            calls are shown instead of the sampled text.
        figures: Folder for the charts as PNG and SVG files; None writes none.

    Returns:
        `out`.

    Raises:
        UserError: One of its files was written by another version.
    """
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    pages.filters |= {each.__name__: each for each in (*FORMS, *FACTS, how_read)}
    context = page_context(run_dir, decode=decode or _find_decoder(run_dir))
    write_whole(out, pages.get_template("report.html.j2").render(context))
    if figures is not None:
        for chart in (*context["tradeoff"], *context["curves"], *context["warm_start"]):
            chart.write(figures)
    return out


def page_context(run_dir: Path, *, decode: Decode | None) -> dict[str, Any]:
    """Read the run and return everything the template names."""
    sft, grpo, evaluation = (stage_in(run_dir, stage) for stage in STAGES)
    summary = evaluation.read_json("summary.json")
    policies = [_complete(row) for row in summary.get("policies", [])]
    scored = [row for row in policies if row["pass_rate"] is not None]
    steps = grpo.read_metrics()
    losses = [row | {WARM_START.name: row.get("loss")} for row in sft.read_metrics()]
    evaluated = {name: evaluation.read_episodes(name) for name in evaluation.list_episodes()}
    shown, origin = _episodes_to_show(grpo, evaluated)
    best, worst = best_and_worst(shown, count=NUM_SHOWN, decode=decode)
    before, after = evaluated.get("sft", []), evaluated.get("grpo", [])
    return {
        "name": run_dir.name,
        "config": evaluation.read_config() or grpo.read_config() or sft.read_config(),
        "stages": {title: (run_dir / stage).is_dir() for stage, title in STAGES.items()},
        "policies": policies,
        "headline": {row["name"]: row for row in policies if not is_greedy(row)},
        "colours": COLOURS,
        "tradeoff": [draw_tradeoff(scored)] if scored else [],
        "bars": [_stop_bar(row) for row in policies],
        "discipline": [_discipline_cells(row) for row in policies if row["discipline"]],
        "discipline_heads": [head for head, _ in DISCIPLINE.values()],
        "written": [row for row in map(_written_calls, policies) if row["text"]],
        "reasons": REASONS,
        "comparison": _comparison(summary, before, after),
        "gap": share_of_the_way(before, after, evaluated.get("gold", [])),
        "curves": _draw_curves(steps, *CURVES),
        "unscorable": unscorable_parts(steps),
        "warm_start": _draw_curves(losses, WARM_START),
        "pairs": most_shortened(before, after, count=NUM_SHOWN, decode=decode),
        "best": best,
        "worst": worst,
        "origin": origin,
        "decoded": decode is not None,
    }


def unscorable_parts(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many training episodes failed for reasons of the machine, by what failed."""
    counts: Counter[str] = Counter()
    for row in rows:
        for name, value in row.items():
            if name.startswith("unscorable/") and value:
                counts[name.removeprefix("unscorable/").replace("_", " ")] += round(value)
    return dict(counts)


def _find_decoder(run_dir: Path) -> Decode | None:
    paths = sorted(run_dir.rglob("tokenizer.json"), key=lambda path: (len(path.parts), path))
    if not paths:
        return None
    tokenizer = Tokenizer.from_file(str(paths[0]))

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False))

    return decode


def _episodes_to_show(
    grpo: StageDir, evaluated: Mapping[str, list[Episode]]
) -> tuple[list[Episode], str]:
    for policy in ("grpo", "sft"):
        if evaluated.get(policy):
            return evaluated[policy], f"the evaluation of {policy} on held-out tasks"
    if steps := grpo.list_episodes("step_"):
        number = int(steps[-1].removeprefix("step_"))
        origin = f"training step {number}, because evaluation has not run yet"
        return grpo.read_episodes(number), origin
    return [], ""


def _complete(row: Row) -> dict[str, Any]:
    """Fill in fields that an older summary may lack."""
    absent = {"sampling": "", "num_unscorable": 0, "unscorable": {}, "segments_mean": None}
    return {**absent, "discipline": {}, **row}


def _discipline_cells(row: Row) -> dict[str, Any]:
    found = row["discipline"]
    cells = [form(found.get(name)) for name, (_, form) in DISCIPLINE.items()]
    return {"name": row["name"], "sampling": row["sampling"], "cells": cells}


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
    parts = [f"{name} {share(num / total)}" for name, num in shown.items()]
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


def _draw_curves(rows: Sequence[Row], *curves: Curve) -> list[Chart]:
    """Draw those of which there are numbers."""
    found = {
        curve: [(row["step"], row[curve.name]) for row in rows if row.get(curve.name) is not None]
        for curve in curves
    }
    return [draw_curve(curve, points) for curve, points in found.items() if points]
