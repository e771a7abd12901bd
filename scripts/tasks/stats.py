"""`tightrope tasks stats DIR`: what a task set is made of, in a table and as PNGs.

    tightrope tasks stats tasks/mine
    tightrope tasks stats --config configs/tiny.yaml

Histograms go to a folder beside the set, SET.stats, or to `--figures`. If it is the set of an
experiment whose GRPO run has played some of the tasks, their measured pass@k is shown too.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from envs.tasks.store import TaskStore
from rewards.solves import Solves, pass_at_k
from tightrope_cli.tasks.task_set import has_config, open_set, print_counts
from train.config.load import CONFIG, Flag, parse_command, parse_flags
from train.rl.solve_counts import read_solves
from train.stages.run_dir import StageDir, stage_dir, tasks_dir

MOST_SHOWN = 40  # operators and projects of the lock file, and then some
FIGURES = Flag("--figures", "folder of the histograms; if not given, SET.stats", kind=Path)
MEASURED_K = (1, 4, 8)  # of pass@k, where a task has as many samples


def main(argv: list[str]) -> int:
    """Print the table, write the histograms; returns the exit code."""
    prog = "tightrope tasks stats"
    grpo: StageDir | None = None
    if has_config(argv):
        command = parse_command(
            argv,
            prog=prog,
            description="Count the tasks of an experiment and draw their difficulty.",
            example="tightrope tasks stats --config configs/tiny.yaml",
            flags=[FIGURES],
            common=[],
        )
        store, folder, flags = open_set(command), tasks_dir(command.settings), command.flags
        grpo = stage_dir(command.settings, "grpo")
    else:
        flags = parse_flags(
            argv,
            prog=prog,
            description="Count the tasks of a set and draw their difficulty.",
            example="tightrope tasks stats DIR",
            flags=[Flag("dir", "folder of the task set, or --config", kind=Path), FIGURES, CONFIG],
        )
        folder = flags["dir"]
        store = TaskStore.open(folder)
    print_counts(folder, store)
    _print_table(store)
    played = read_solves(grpo) if grpo else {}
    solves = {name: count for name, count in played.items() if name in store.public}
    if grpo and solves:
        _print_measured(solves, where=grpo.path)
    from tightrope_cli.pages.histograms import write_histograms  # matplotlib takes a second to load

    beside = folder if folder.name not in ("", "..") else folder.resolve()
    figures = flags["figures"] or beside.with_name(f"{beside.name}.stats")
    for path in write_histograms(list(store.public.values()), solves, folder=figures):
        print(path)
    return 0


def _print_table(store: TaskStore) -> None:
    tasks, hidden = list(store.public.values()), store.hidden.values()
    rows: dict[str, Counter[Any]] = {
        "operators": Counter(name for half in hidden for name in half.operators),
        "projects": Counter(f"{task.project} ({task.split})" for task in tasks),
        "editable": Counter(", ".join(task.editable) for task in tasks),
        "rejects": Counter(store.manifest.rejects if store.manifest else {}),
    }
    for name, counts in rows.items():
        shown = [f"{key} {count}" for key, count in counts.most_common(MOST_SHOWN)]
        if len(counts) > MOST_SHOWN:
            shown.append(f"and {len(counts) - MOST_SHOWN} more")
        print(f"{name}: {', '.join(shown) or 'none'}")
    graded = [half for half in hidden if half.grader == "pytest"]
    if graded:
        num_recorded = sum(bool(half.calls) for half in graded)
        print(f"graded by recorded calls too: {num_recorded} of {len(graded)}")
    print(f"\n{'difficulty':<26}{'least':>8}{'median':>8}{'most':>8}{'known':>8}")
    for field in type(tasks[0].difficulty).model_fields:
        values = [getattr(task.difficulty, field) for task in tasks]
        known = [int(value) for value in values if value is not None]
        if known:
            ends = f"{min(known):>8}{median(known):>8.0f}{max(known):>8}"
            print(f"{field:<26}{ends}{len(known):>8}")


def _print_measured(solves: Mapping[str, Solves], *, where: Path) -> None:
    counts = list(solves.values())
    never = sum(not each.solved for each in counts)
    always = sum(each.solved == each.samples for each in counts)
    print(f"\nplayed in {where}: {len(counts)} tasks, {never} never solved, {always} always")
    for k in MEASURED_K:
        rates = [pass_at_k(each, k) for each in counts if each.samples >= k]
        if rates:
            print(f"pass@{k}: mean {sum(rates) / len(rates):.2f} of {len(rates)} tasks")
