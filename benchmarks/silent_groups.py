"""Does replacing groups without signal help, at equal episodes? And staleness, and the curriculum?

    python benchmarks/silent_groups.py --budget-s 3000     # again and again: it goes on

GRPO of configs/tiny.yaml as it is (`plain`); with further groups in the place of those without
signal (`resampled`); and with two updates on each rollout besides, so that the ratios in the loss
are not 1 (`ratios`). The latter two are ended when they have played as many episodes as `plain`,
dropped ones included. Three seeds each, from one warm start a seed. One seed of `plain` with
`rollouts.max_staleness: 1`, and one with `grpo.curriculum`, are shown step by step. All are
evaluated as they ended: no choice by dev tasks. The table is of what is there, and names the cells
that are missing.

The exit code is 1 while a cell is missing, or if more than a quarter of the groups that `resampled`
or `ratios` train on have no signal.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.cells import Cell, Place, find_missing, make_cells
from envs.records import Episode
from rewards.metrics import compare_seeds, summarize_seeds
from train.stages.exit_codes import run_main

MOST_SILENT = 0.25
NUM_PARTS = 8  # of a run, in the table by steps
SILENT = "share_groups_without_signal"
_OF_SEEDS, _ALONE = ("plain", "resampled", "ratios"), ("stale", "curriculum")
Row = Mapping[str, Any]


def list_cells(place: Place, seeds: Sequence[int], *, has_warm_start: bool) -> list[Cell]:
    """Return all cells: a warm start a seed, where there is none, and the arms.

    Args:
        place: Its configuration says how many episodes a run has.
        seeds: Of the arms with intervals; the first one also of the others.
        has_warm_start: Whether the cells of warm starts are there.
    """
    grpo = place.settings(Cell("plain", seeds[0])).grpo
    most = grpo.max_steps * grpo.groups_per_step * grpo.group_size
    further = f"--grpo.resample={2 * grpo.groups_per_step}"
    arms: dict[str, tuple[str, ...]] = {
        "plain": (),
        "resampled": (further,),
        "ratios": (further, "--grpo.updates_per_rollout=2"),
        "stale": ("--rollouts.max_staleness=1",),
        "curriculum": ("--grpo.curriculum=true",),
    }
    cells = [] if has_warm_start else [Cell(f"warm{seed}", seed, policies=()) for seed in seeds]
    for name, settings in arms.items():
        for seed in seeds[:1] if name in _ALONE else seeds:
            cells.append(
                Cell(
                    f"{name}{seed}",
                    seed,
                    settings,
                    policies=("{last}",),
                    warm_start=f"warm{seed}",
                    max_episodes=most if further in settings else None,
                )
            )
    return cells


def describe(place: Place, cells: Sequence[Cell], seeds: Sequence[int]) -> tuple[str, bool]:
    """Return the table of what is there, and whether all is there and as it should be."""
    missing = {cell.name for cell in find_missing(place, cells)}
    rows = {
        cell.name: place.stage(cell, "grpo").read_metrics()
        for cell in cells
        if cell.name not in missing and cell.policies
    }
    played = {cell.name: read_played(place, cell) for cell in cells if cell.name in rows}
    by_arm = {arm: [f"{arm}{seed}" for seed in seeds] for arm in _OF_SEEDS}
    there = {arm: [name for name in names if name in rows] for arm, names in by_arm.items()}
    lines = [
        "# Groups without signal: replaced, or not",
        "",
        f"`python benchmarks/silent_groups.py`, {place.config.name}. Of groups without signal: "
        "those that were trained on, over all steps and over the last third. Intervals (95 %) are "
        "over seeds where there are several, else over tasks.",
        "",
        "| Arm | Seeds | Steps | Episodes played | Without signal | in the last third "
        "| Pass rate | Tokens per solved |",
        "|---|---|---|---|---|---|---|---|",
        *(_describe_arm(arm, names, rows, played) for arm, names in there.items() if names),
        "",
        "| Against plain | Seeds | Pass rate difference | Tokens per solved, ratio |",
        "|---|---|---|---|",
        *_compare(there, played),
        "",
        *_describe_steps({arm: rows.get(f"{arm}{seeds[0]}") for arm in ("plain", *_ALONE)}),
        "",
        f"Missing: {', '.join(sorted(missing)) or 'none'}.",
    ]
    silent = [
        fmean(silent_share(rows[name]) for name in there[arm])
        for arm in _OF_SEEDS[1:]
        if there[arm]
    ]
    return "\n".join(lines) + "\n", not missing and max(silent, default=1.0) < MOST_SILENT


def read_played(place: Place, cell: Cell) -> list[Episode]:
    """Read what the one policy of a cell played in its evaluation."""
    (series,) = place.stage(cell, "evaluate").list_episodes()
    return place.episodes(cell, series)


def silent_share(rows: Sequence[Row]) -> float:
    """Return the mean share of groups without signal over steps."""
    return fmean(row[SILENT] for row in rows)


def _describe_arm(
    arm: str,
    names: Sequence[str],
    rows: Mapping[str, Sequence[Row]],
    played: Mapping[str, Sequence[Episode]],
) -> str:
    found = summarize_seeds([played[name] for name in names], name=arm, sampling="temperature 1")
    of_all = [rows[name] for name in names]
    last = [each[-math.ceil(len(each) / 3) :] for each in of_all]
    cells = [
        arm,
        str(len(names)),
        f"{fmean(map(len, of_all)):.0f}",
        f"{fmean(sum(row['num_episodes'] for row in each) for each in of_all):,.0f}",
        f"{fmean(map(silent_share, of_all)):.0%}",
        f"{fmean(map(silent_share, last)):.0%}",
        _with_interval(found, "pass_rate", ".3f"),
        _with_interval(found, "tokens_per_solved", ",.0f"),
    ]
    return f"| {' | '.join(cells)} |"


def _compare(
    there: Mapping[str, Sequence[str]], played: Mapping[str, Sequence[Episode]]
) -> list[str]:
    lines = []
    for arm in _OF_SEEDS[1:]:
        pairs = [
            (played[name.replace(arm, "plain")], played[name])
            for name in there[arm]
            if name.replace(arm, "plain") in played
        ]
        if pairs:
            found = compare_seeds(pairs, first_name="plain", second_name=arm)
            points = _with_interval(found, "pass_rate_difference", "+.3f")
            ratio = _with_interval(found, "tokens_per_solved_ratio", ".3f")
            lines.append(f"| {arm} | {len(pairs)} | {points} | {ratio} |")
    return lines


def _with_interval(found: Row, name: str, form: str) -> str:
    numbers = (found[name], *found[f"{name}_ci95"])
    texts = ["-" if each is None else format(each, form) for each in numbers]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def _describe_steps(runs: Mapping[str, Sequence[Row] | None]) -> list[str]:
    """Return a table by steps: training episodes' pass rate, tokens per solved, silent groups."""
    there = {arm: rows for arm, rows in runs.items() if rows}
    if not there:
        return []
    lines = [
        "Of the episodes in training, one seed: pass rate / tokens per solved / groups without "
        "signal, means over steps.",
        "",
        f"| Steps | {' | '.join(there)} |",
        "|---" * (len(there) + 1) + "|",
    ]
    size = math.ceil(max(map(len, there.values())) / NUM_PARTS)
    for first in range(0, size * NUM_PARTS, size):
        cells = [_describe_part(rows[first : first + size]) for rows in there.values()]
        if any(cells):
            lines.append(f"| {first + 1} to {first + size} | {' | '.join(cells)} |")
    return lines


def _describe_part(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    solved = [row["tokens_per_solved"] for row in rows if row.get("tokens_per_solved")]
    per_solved = f"{fmean(solved):,.0f}" if solved else "-"
    rate = fmean(row.get("pass_rate", 0.0) for row in rows)
    return f"{rate:.2f} / {per_solved} / {silent_share(rows):.0%}"


def main(argv: list[str]) -> int:
    """Make what is missing, as far as the time goes, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "tiny.yaml")
    parser.add_argument("--folder", type=Path, default=Path("runs/silent_groups"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/silent_groups.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--warm", help="runs whose warm starts are used: runs/study/seed{seed}")
    parser.add_argument("--settings", nargs="+", default=[], help="of all: grpo.max_steps=12")
    parser.add_argument("--cells", nargs="+", help="only these, such as plain0 resampled0")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--budget-s", type=float, default=math.inf)
    given = parser.parse_args(argv)
    shared = ("--grpo.evaluate_every=null", *(f"--{each}" for each in given.settings))
    place = Place(given.folder.resolve(), given.config.resolve(), shared)
    for seed in given.seeds if given.warm else ():
        link = place.folder / f"warm{seed}"
        place.folder.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path(given.warm.format(seed=seed)).resolve())
    cells = list_cells(place, given.seeds, has_warm_start=bool(given.warm))
    wanted = [cell for cell in cells if not given.cells or cell.name in given.cells]
    starts = {cell.warm_start for cell in wanted}
    wanted = [cell for cell in cells if cell in wanted or cell.name in starts]
    make_cells(place, wanted, jobs=given.jobs, budget_s=given.budget_s)
    text, is_fine = describe(place, cells, given.seeds)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
