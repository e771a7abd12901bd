"""The demo's comparison made believable: more held-out tasks, several seeds, paired intervals.

    python benchmarks/demo.py --out benchmarks/results/demo.md

Three seeds of warm start and GRPO on one task set, 400 held-out tasks x 4 samples at temperature 1
and once greedily: `sft`, `sft_careful` (warm start on careful demonstrations only, so that what RL
adds is visible), `grpo`, its ablations, and the yardsticks. Intervals are over training seeds, with
the error of the tasks that they share (`rewards/seeds.py`). Runs share the cores, `--jobs` at a
time; finished stages are not made again, so it can be interrupted. Settings come from
configs/tiny.yaml and are not touched here: they were chosen on dev tasks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.cells import Cell, Place, find_missing, make_cells
from benchmarks.measuring import show_interval as interval
from envs.files import read_rows
from envs.records import Episode
from rewards.metrics import compare, compare_seeds, summarize_seeds
from rewards.seeds import share_of_the_way_over_seeds
from train.stages.exit_codes import run_main
from train.stages.run_dir import stage_in

ABLATIONS = ("outcome_only", "zscore")
COLUMNS = (
    "policy|sampling|seeds|tasks|samples|pass rate|tokens per solved|peak p50|evictions|compactions"
)


def overrides_of(form: str) -> tuple[str, ...]:
    """Return what an ablation changes; where cost is free its weight has no effect, and is 0."""
    free = ("--reward.cost_weight=0",) if form == "outcome_only" else ()
    return (f"--reward.advantage={form}", *free)


def list_cells(seeds: Sequence[int], *, ablations: Sequence[str]) -> list[Cell]:
    """Return all runs: of each seed the whole way, on careful demonstrations, and ablations."""
    cells = []
    for seed in seeds:
        yardsticks = ("gold", "careful", "base") if seed == seeds[0] else ()
        main = (*yardsticks, "sft", "sft-greedy", "grpo", "grpo-greedy")
        careful, ended = ("sft", "sft-greedy"), ("grpo", "grpo-greedy")
        cells.append(Cell(f"seed{seed}", seed, policies=main))
        cells.append(Cell(f"careful{seed}", seed, ("--sft.wasteful_share=0",), careful))
        cells += [
            Cell(f"{form}{seed}", seed, overrides_of(form), ended, warm_start=f"seed{seed}")
            for form in ablations
        ]
    return cells


Rows = dict[str, list[list[Episode]]]


def read_series(place: Place, name: str, series: str) -> list[Episode]:
    """Read what a policy of a run played in its evaluation."""
    return stage_in(place.folder / name, "evaluate").read_episodes(series)


def by_row(place: Place, seeds: Sequence[int], *, ablations: Sequence[str]) -> Rows:
    """Return the episodes of each seed by row of the table; greedy ones end in `-greedy`."""
    found: Rows = {}
    for name in ("base", "gold", "careful"):
        found[name] = [read_series(place, f"seed{seeds[0]}", name)]
    rows = {"sft": ("seed", "sft"), "sft_careful": ("careful", "sft"), "grpo": ("seed", "grpo")}
    rows |= {form: (form, "grpo") for form in ablations}
    for row, (run, policy) in rows.items():
        for suffix in ("", "-greedy"):
            found[row + suffix] = [
                read_series(place, f"{run}{seed}", policy + suffix) for seed in seeds
            ]
    return found


def table(found: Rows) -> list[str]:
    """Return a Markdown table, one row per policy and sampling."""
    lines = [f"| {COLUMNS.replace('|', ' | ')} |", "|---" * len(COLUMNS.split("|")) + "|"]
    for name, of_seeds in found.items():
        greedy = name.endswith("-greedy")
        sampling = "greedy" if greedy else "temperature 1"
        row = summarize_seeds(of_seeds, name=name.removesuffix("-greedy"), sampling=sampling)
        cells = [
            row["name"],
            "scripted" if name in ("gold", "careful") else sampling,
            str(row["num_seeds"]),
            str(row["num_tasks"]),
            str(row["num_samples"]),
            interval(row["pass_rate"], row["pass_rate_ci95"], ".3f"),
            interval(row["tokens_per_solved"], row["tokens_per_solved_ci95"], ",.0f"),
            f"{row['peak_context_p50']:.0f}",
            f"{row['evictions_mean']:.2f}",
            f"{row['compactions_mean']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def comparisons(found: Rows, *, ablations: Sequence[str]) -> list[str]:
    """Return the paired comparisons, each against GRPO."""
    columns = "GRPO against|seeds|pass rate difference|tokens per solved, ratio"
    lines = [f"| {columns.replace('|', ' | ')} |", "|---|---|---|---|"]
    for other in ("sft", "sft_careful", *ablations):
        for suffix in ("", "-greedy"):
            first, second = other + suffix, "grpo" + suffix
            pairs = list(zip(found[first], found[second], strict=True))
            row = compare_seeds(pairs, first_name=first, second_name=second)
            points = interval(row["pass_rate_difference"], row["pass_rate_difference_ci95"], "+.3f")
            ratio = interval(
                row["tokens_per_solved_ratio"], row["tokens_per_solved_ratio_ci95"], ".3f"
            )
            lines.append(f"| {first} | {row['num_seeds']} | {points} | {ratio} |")
    pairs = list(zip(found["sft"], found["grpo"], strict=True))
    way = share_of_the_way_over_seeds(pairs, found["gold"][0])
    share = interval(way.value, way.ci95, ".3f")
    return [*lines, "", f"Share of the way from `sft` to `gold` in tokens per solved: {share}."]


def each_seed(place: Place, seeds: Sequence[int]) -> list[str]:
    """Return the comparison with the warm start seed by seed: intervals over tasks alone."""
    lines = ["| seed | pass rate difference | tokens per solved, ratio |", "|---|---|---|"]
    for seed in seeds:
        first, second = (read_series(place, f"seed{seed}", name) for name in ("sft", "grpo"))
        row = compare(first, second, first_name="sft", second_name="grpo")
        points = interval(row["pass_rate_difference"], row["pass_rate_difference_ci95"], "+.3f")
        ratio = interval(row["tokens_per_solved_ratio"], row["tokens_per_solved_ratio_ci95"], ".3f")
        lines.append(f"| {seed} | {points} | {ratio} |")
    return lines


def curves(place: Place, runs: Sequence[str]) -> list[str]:
    """Return what each GRPO run scored on dev tasks as it went: the choice of its best adapter."""
    lines = ["| run | step: pass rate on dev tasks at tokens per solved |", "|---|---|"]
    for run in runs:
        rows = read_rows(place.folder / run / "grpo" / "dev.jsonl")
        points = [
            f"{row['step']}: {row['pass_rate']:.2f}"
            + (f" at {row['tokens_per_solved']:,.0f}" if row["tokens_per_solved"] else "")
            for row in rows
        ]
        lines.append(f"| {run} | {'; '.join(points)} |")
    return lines


def versions(place: Place, seed: int) -> str:
    """Return the packages that the runs were made with."""
    found = stage_in(place.folder / f"seed{seed}", "grpo").read_json("environment.json")
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return f"Python {found['python']}, {packages}."


def main(argv: list[str]) -> int:
    """Make the runs and write the table."""
    parser = argparse.ArgumentParser(description="The demo's comparison over several seeds.")
    parser.add_argument("--folder", type=Path, default=Path("runs/study"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo.md"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--ablations", nargs="*", default=ABLATIONS, choices=ABLATIONS)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(argv)
    shared = (
        f"--tasks.test={given.tasks}",
        f"--evaluate.num_tasks={given.tasks}",
        f"--evaluate.num_samples={given.samples}",
    )
    place = Place(given.folder.resolve(), ROOT / "configs" / "tiny.yaml", shared)
    cells = list_cells(given.seeds, ablations=given.ablations)
    make_cells(place, cells, jobs=given.jobs)
    if missing := find_missing(place, cells):
        print(f"not whole: {', '.join(cell.name for cell in missing)}")
        return 1
    found = by_row(place, given.seeds, ablations=given.ablations)
    lines = [
        "# The demo over several seeds",
        "",
        f"`python benchmarks/demo.py --seeds {' '.join(map(str, given.seeds))} "
        f"--tasks {given.tasks} --samples {given.samples}`; 95 % intervals over the "
        f"{len(given.seeds)} training seeds (Student's t, ratios and tokens by their logarithms), "
        "with the error of the tasks that they share added by squares; rows of one seed: over "
        "tasks alone.",
        "",
        *table(found),
        "",
        *comparisons(found, ablations=given.ablations),
        "",
        "GRPO against its warm start, each seed; intervals over tasks alone:",
        "",
        *each_seed(place, given.seeds),
        "",
        *curves(place, [f"{each}{n}" for each in ("seed", *given.ablations) for n in given.seeds]),
        "",
        versions(place, given.seeds[0]),
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
