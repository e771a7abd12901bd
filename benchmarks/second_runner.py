"""Asks the second runner about honest repairs: gold of a task set, and gold otherwise written.

    python benchmarks/second_runner.py SET --tasks 200 --out benchmarks/results/second_runner.md

Tasks are drawn by seed 0, from all projects in turn. Of each: the original files, and the function
that was broken, in them, written in up to three other ways that do the same (those of
benchmarks/recorded_calls.py). Those that the suite passes are asked about; one that is not believed
is a false alarm, and is printed with its reason. Rows are kept in the cache by the code that
decides them: the same command goes on where it ended. The exit code is 1 if there was an alarm.
About 5 s of computing for a task, more where suites are slow.
"""

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.recorded_calls import vary
from envs.grading.bwrap_runner import doubt_pass, require_bubblewrap
from envs.grading.graders import apply_submission
from envs.grading.test_suite import run_suite
from envs.records import HiddenTask
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.server_pool import ServerPool
from envs.tasks.code_key import CHILD, code_key
from envs.tasks.store import Files, TaskStore
from train.config.load import default_cache
from train.stages.progress import Progress


def main() -> int:
    """Print the table; returns 1 if an honest repair was not believed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("set", type=Path, help="a task set with suites")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no task after these")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    require_bubblewrap()
    store, end = TaskStore.open(asked.set), time.monotonic() + 60 * asked.minutes
    chosen = draw(store, asked.tasks)
    rows: defaultdict[str, list[int]] = defaultdict(lambda: [0] * 4)
    with (
        ServerPool(asked.cache, max_servers=6) as servers,
        Progress("second runner", total=len(chosen), unit="tasks") as progress,
    ):
        for hidden in chosen:
            if time.monotonic() > end:
                break
            found = ask_once(hidden, store, servers, asked.cache)
            project = store.public[hidden.task_id].project
            rows[project] = [a + b for a, b in zip(rows[project], found, strict=True)]
            progress.advance(1)
    sums = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines = ["| project | gold | not believed | variants | not believed |", "|---|---|---|---|---|"]
    for project, counts in [*sorted(rows.items()), ("all", sums)]:
        lines.append(f"| {project} | {' | '.join(map(str, counts))} |")
    print("\n".join(lines))
    if asked.out:
        title = "# The second runner on honest repairs\n\n`python benchmarks/second_runner.py SET "
        asked.out.write_text(
            f"{title}--tasks {asked.tasks}`\n\n" + "\n".join([*lines, ""]), "utf-8"
        )
    return int(bool(sums[1] or sums[3]))


def draw(store: TaskStore, num_tasks: int) -> list[HiddenTask]:
    """Return so many tasks, of each project one after another."""
    by_project: defaultdict[str, list[HiddenTask]] = defaultdict(list)
    for task_id in sorted(store.hidden):
        if store.hidden[task_id].grader == "pytest":
            by_project[store.public[task_id].project].append(store.hidden[task_id])
    for tasks in by_project.values():
        random.Random(0).shuffle(tasks)
    longest = max(map(len, by_project.values()), default=0)
    turns = [tasks[at] for at in range(longest) for tasks in by_project.values() if at < len(tasks)]
    return turns[:num_tasks]


def ask_once(hidden: HiddenTask, store: TaskStore, servers: ServerPool, cache: Path) -> list[int]:
    """Return what was found about a task by the same code, or find it."""
    code = code_key("envs.grading.bwrap_runner", "envs.grading.bwrap_child",
                    "envs.grading.asked_otherwise", CHILD)  # fmt: skip
    kept = cache / "second_runner" / f"{hidden.task_id}-{code[:12]}.json"
    if not kept.is_file():
        found = ask(hidden, store, servers.get("pytest", hidden.runtime))
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found), "utf-8")
    counts: list[int] = json.loads(kept.read_text("utf-8"))
    return counts


def ask(hidden: HiddenTask, store: TaskStore, server: ForkServer) -> list[int]:
    """Return numbers of (gold, not believed, variants, not believed) of a task."""
    task, gold = store.public[hidden.task_id], store.tests(hidden)
    ids = [*hidden.fail_to_pass, *hidden.pass_to_pass]
    counts = [0] * 4
    broken = store.workspace(task)
    for number, files in enumerate([gold, *write_otherwise(hidden, broken, gold)]):
        tree = apply_submission(gold, task.editable, files)
        if not run_suite(server, tree, ids=ids, limit_s=hidden.limit_s).passed.issuperset(ids):
            continue
        doubt = doubt_pass(
            tree, gold=gold, ids=ids, limit_s=hidden.limit_s, python=server.interpreter
        )
        at = 0 if number == 0 else 2
        counts[at] += 1
        counts[at + 1] += bool(doubt)
        if doubt:
            print(f"{hidden.task_id}, {number}: {doubt}", flush=True)
    return counts


def write_otherwise(hidden: HiddenTask, broken: Files, gold: Files) -> Iterator[Files]:
    """Yield the original files with the function that was broken written in other ways."""
    span = hidden.gold_spans[0]
    if span.path not in broken or span.path not in gold:
        return
    pairs = zip(broken[span.path].split("\n"), gold[span.path].split("\n"), strict=False)
    line = next((at for at, (old, new) in enumerate(pairs, 1) if old != new), 0)
    for text in vary(gold[span.path], line):
        if text != gold[span.path]:
            yield {**gold, span.path: text}


if __name__ == "__main__":
    sys.exit(main())
