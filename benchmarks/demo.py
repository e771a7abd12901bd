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
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from envs.errors import UserError
from envs.files import read_rows
from envs.records import Episode
from rewards.metrics import compare, compare_seeds, summarize_seeds
from rewards.seeds import share_of_the_way_over_seeds
from train.config.load import load_settings
from train.stages.exit_codes import run_main
from train.stages.open_stage import changed_inputs, config_changes
from train.stages.run_dir import Stage, stage_in

ROOT = Path(__file__).resolve().parents[1]
ABLATIONS = ("outcome_only", "zscore")
COLUMNS = (
    "policy|sampling|seeds|tasks|samples|pass rate|tokens per solved|peak p50|evictions|compactions"
)


@dataclass(frozen=True)
class Study:
    """Where runs live and how much is played."""

    folder: Path
    num_tasks: int
    num_samples: int

    def arguments(self) -> list[str]:
        """Return the configuration that all runs share."""
        config = ROOT / "configs" / "tiny.yaml"
        return [
            f"--config={config}",
            f"--run.dir={self.folder}",
            f"--tasks.test={self.num_tasks}",
        ]

    def build_tasks(self) -> None:
        """Build the one task set of all runs."""
        line = [sys.executable, str(ROOT / "scripts" / "main.py"), "tasks", "build"]
        subprocess.run([*line, *self.arguments()], check=True, cwd=ROOT)

    def run(
        self,
        name: str,
        *,
        seed: int,
        policies: Sequence[str],
        overrides: list[str],
        cores: Sequence[int],
    ) -> None:
        """Make all stages of one run up to its evaluation, those that are missing.

        Args:
            cores: The CPU cores that it may use.

        Raises:
            UserError: A finished stage was made with other settings.
        """
        arguments = [
            *self.arguments(),
            f"--run.name={name}",
            f"--run.seed={seed}",
            f"--evaluate.num_tasks={self.num_tasks}",
            f"--evaluate.num_samples={self.num_samples}",
            f"--evaluate.policies=[{', '.join(policies)}]",
            *overrides,
        ]
        main, train = str(ROOT / "scripts" / "main.py"), str(ROOT / "train")
        stages: dict[Stage, list[str]] = {
            "demos": [main, "demos"],
            "sft": [f"{train}/sft.py"],
            "grpo": [f"{train}/grpo.py", "--force"],
            "evaluate": [main, "evaluate"],
        }
        if "grpo" not in policies:
            del stages["grpo"]
        settings = load_settings(ROOT / "configs" / "tiny.yaml", _dotted(arguments))
        for stage, program in stages.items():
            begun = stage_in(self.folder / name, stage)
            path = begun.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if begun.config.exists():
                trained = stage in ("grpo", "evaluate") and "grpo" in policies
                found = config_changes(begun, settings)
                changes = [change for change in found if _counts(change, trained=trained)]
                changes += changed_inputs(settings, begun)
                if changes:
                    raise UserError(
                        f"{path} was made with other settings or from other stages",
                        got="; ".join(changes),
                        remedy=f"delete {path}, or name another --folder",
                    )
                if begun.is_done():
                    continue
            again = {"demos": "--clean"}.get(stage, "--resume") if path.exists() else ""
            line = [sys.executable, *program, *arguments, *([again] if again else [])]
            print(f"{name}: {stage}", flush=True)
            with (self.folder / name / f"{stage}.log").open("ab") as log:
                on_cores = ["taskset", "--cpu-list", ",".join(map(str, cores))]
                subprocess.run([*on_cores, *line], check=True, cwd=ROOT, stdout=log, stderr=log)

    def share(self, source: str, name: str) -> None:
        """Let a run use the demonstrations and the warm start of another."""
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        for stage in ("demos", "sft"):
            if not (self.folder / name / stage).is_symlink():  # it may point to what is to come
                (self.folder / name / stage).symlink_to(self.folder / source / stage)

    def episodes(self, name: str, series: str) -> list[Episode]:
        """Read one series of one run."""
        return stage_in(self.folder / name, "evaluate").read_episodes(series)


def _dotted(arguments: list[str]) -> list[str]:
    return [part for text in arguments[1:] for part in text.split("=", 1)]


def _counts(change: str, *, trained: bool) -> bool:
    """Tell whether a change of settings matters to a stage, which runs may share.

    Args:
        trained: GRPO's result is part of it.
    """
    other = ["run.name", "run.cache", "evaluate.policies"]
    if not trained:  # but rows per step of the warm start follow from the microbatch
        other += ["grpo.", "reward."]
    return change.startswith("grpo.tokens_per_microbatch") or not change.startswith(tuple(other))


def overrides_of(form: str) -> list[str]:
    """Return what an ablation changes; where cost is free its weight has no effect, and is 0."""
    free = ["--reward.cost_weight=0"] if form == "outcome_only" else []
    return [f"--reward.advantage={form}", *free]


def make_runs(study: Study, seeds: Sequence[int], *, ablations: Sequence[str], jobs: int) -> None:
    """Train and evaluate everything, `jobs` runs at a time, each on its share of the cores."""
    whole: list[Callable[..., None]] = []
    ablated: list[Callable[..., None]] = []
    for seed in seeds:
        yardsticks = ["gold", "careful", "base"] if seed == seeds[0] else []
        main = [*yardsticks, "sft", "sft-greedy", "grpo", "grpo-greedy"]
        careful = ["sft", "sft-greedy"]
        whole += [
            partial(study.run, f"seed{seed}", seed=seed, policies=main, overrides=[]),
            partial(
                study.run,
                f"careful{seed}",
                seed=seed,
                policies=careful,
                overrides=["--sft.wasteful_share=0"],
            ),
        ]
        for form in ablations:
            name, overrides = f"{form}{seed}", overrides_of(form)
            study.share(f"seed{seed}", name)
            policies = ["grpo", "grpo-greedy"]
            ablated.append(
                partial(study.run, name, seed=seed, policies=policies, overrides=overrides)
            )
    cores = sorted(os.sched_getaffinity(0))
    free: queue.Queue[list[int]] = queue.Queue()
    for job in range(jobs):
        free.put(cores[job::jobs] or cores)

    def on_free_cores(run: Callable[..., None]) -> None:
        mine = free.get()
        try:
            run(cores=mine)
        except (UserError, subprocess.CalledProcessError) as error:
            print(f"failed, the others go on: {error}", flush=True)
            raise
        finally:
            free.put(mine)

    with ThreadPoolExecutor(jobs) as pool:
        for phase in (whole, ablated):  # ablations go on from the warm starts
            working = [pool.submit(on_free_cores, run) for run in phase]
            for work in wait(working).done:
                work.result()


Rows = dict[str, list[list[Episode]]]


def by_row(study: Study, seeds: Sequence[int], *, ablations: Sequence[str]) -> Rows:
    """Return the episodes of each seed by row of the table; greedy ones end in `-greedy`."""
    found: Rows = {}
    for name in ("base", "gold", "careful"):
        found[name] = [study.episodes(f"seed{seeds[0]}", name)]
    rows = {"sft": ("seed", "sft"), "sft_careful": ("careful", "sft"), "grpo": ("seed", "grpo")}
    rows |= {form: (form, "grpo") for form in ablations}
    for row, (run, policy) in rows.items():
        for suffix in ("", "-greedy"):
            found[row + suffix] = [
                study.episodes(f"{run}{seed}", policy + suffix) for seed in seeds
            ]
    return found


def interval(value: float | None, ci: Sequence[float | None], form: str) -> str:
    """Return a value with its interval."""
    texts = ["-" if v is None else format(v, form) for v in (value, *ci)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


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


def each_seed(study: Study, seeds: Sequence[int]) -> list[str]:
    """Return the comparison with the warm start seed by seed: intervals over tasks alone."""
    lines = ["| seed | pass rate difference | tokens per solved, ratio |", "|---|---|---|"]
    for seed in seeds:
        first, second = (study.episodes(f"seed{seed}", name) for name in ("sft", "grpo"))
        row = compare(first, second, first_name="sft", second_name="grpo")
        points = interval(row["pass_rate_difference"], row["pass_rate_difference_ci95"], "+.3f")
        ratio = interval(row["tokens_per_solved_ratio"], row["tokens_per_solved_ratio_ci95"], ".3f")
        lines.append(f"| {seed} | {points} | {ratio} |")
    return lines


def curves(study: Study, seeds: Sequence[int], *, ablations: Sequence[str]) -> list[str]:
    """Return what every GRPO run scored on dev tasks as it went: the choice of its best adapter."""
    runs = [f"{form}{seed}" for form in ("seed", *ablations) for seed in seeds]
    lines = ["| run | step: pass rate on dev tasks at tokens per solved |", "|---|---|"]
    for run in runs:
        rows = read_rows(study.folder / run / "grpo" / "dev.jsonl")
        points = [
            f"{row['step']}: {row['pass_rate']:.2f}"
            + (f" at {row['tokens_per_solved']:,.0f}" if row["tokens_per_solved"] else "")
            for row in rows
        ]
        lines.append(f"| {run} | {'; '.join(points)} |")
    return lines


def versions(study: Study, seed: int) -> str:
    """Return the packages that the runs were made with."""
    found = stage_in(study.folder / f"seed{seed}", "grpo").read_json("environment.json")
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
    study = Study(given.folder.resolve(), given.tasks, given.samples)
    study.build_tasks()
    make_runs(study, given.seeds, ablations=given.ablations, jobs=given.jobs)
    found = by_row(study, given.seeds, ablations=given.ablations)
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
        *each_seed(study, given.seeds),
        "",
        *curves(study, given.seeds, ablations=given.ablations),
        "",
        versions(study, given.seeds[0]),
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
