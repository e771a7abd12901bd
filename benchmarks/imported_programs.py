"""Imports forty generated programs, each with a one-line bug and one parametrised test.

    python benchmarks/imported_programs.py --out benchmarks/results/imported_programs.md

The programs are in `tests/envs/importers/forty_programs.py`. Some 2 minutes on 2 busy cores.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from envs.grading.graders import make_grader
from envs.importers.check_instance import import_instances
from envs.importers.instance_file import read_instances
from envs.importers.repository import without_repository
from envs.tasks.store import TaskStore
from envs.tasks.validate import apply_gold, score
from tests.envs.importers.forty_programs import write


def main() -> int:
    """Import them, grade gold and no-op once more; 0 if at least 36 become tasks that pass."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a Markdown file of the results")
    out = parser.parse_args().out
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forty.jsonl"
        write(path)
        repository = without_repository(python=None, cache_dir=Path(folder))
        found = list(import_instances(read_instances(path), repository))
    took_s = time.monotonic() - start
    tasks = [each.task for each in found if each.task is not None]
    store = TaskStore.of(tasks)
    with make_grader(store) as grader:
        gold = [score(grader.grade(task.hidden, apply_gold(task))) for task in tasks]
        noop = [score(grader.grade(task.hidden, task.workspace)) for task in tasks]
    rejects = [f"- {each.name}: {each.reject}" for each in found if each.task is None]
    text = (
        "# Programs with one parametrised test\n\n"
        f"- {len(tasks)} of {len(found)} become tasks, in {took_s:.0f} s\n"
        f"- gold scores 1 on {gold.count(1.0)}, no-op 0 on {noop.count(0.0)}\n"
        + "".join(f"{line}\n" for line in rejects)
    )
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    passing = gold.count(1.0) == noop.count(0.0) == len(tasks)
    return 0 if passing and len(tasks) >= 36 else 1


if __name__ == "__main__":
    raise SystemExit(main())
