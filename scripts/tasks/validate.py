"""`tightrope tasks validate DIR`: grades gold and no-op of every task of a set once more.

    tightrope tasks validate .cache/tightrope/tasks/synthetic-0123456789ab

Gold must score 1, no-op 0, through the grader that also scores episodes on this machine; and no
part of an answer may show. The tasks that fail are printed with the reason, and the exit code is 1.
"""

from pathlib import Path

from envs.grading.graders import Equipment, make_grader
from envs.tasks.set_python import choose_python
from envs.tasks.store import TaskStore
from tightrope_cli.tasks.task_set import WORKERS
from train.config.load import Flag, default_cache, parse_flags
from train.stages.progress import Progress


def main(argv: list[str]) -> int:
    """Check a set; returns 0 if all its tasks pass."""
    flags = parse_flags(
        argv,
        prog="tightrope tasks validate",
        description="Grade gold and no-op of every task of a set once more.",
        example="tightrope tasks validate .cache/tightrope/tasks/synthetic-0123456789ab",
        flags=[
            Flag("dir", "folder of the task set", kind=Path),
            Flag("--python", "a Python with the project's packages, for a set from elsewhere"),
            WORKERS,
        ],
    )

    from envs.tasks.validate import validate

    store, failed = TaskStore.open(flags["dir"]), list[str]()
    tasks, cache = store.built(), default_cache()
    python = choose_python(store, flags["python"], cache_dir=cache)
    equipment = Equipment.find(store, python=python, cache_dir=cache)
    with (
        make_grader(store, cache_dir=cache, equipment=equipment) as grader,
        Progress("checking gold and no-op", total=len(tasks), unit="tasks") as progress,
    ):
        for check in validate(tasks, grader=grader, workers=flags["workers"]):
            if check.reject is not None:
                failed.append(f"{check.task.public.id}: {check.reject}")
            progress.advance()
    passed = f"{flags['dir']}: {len(tasks) - len(failed)} of {len(tasks)} tasks pass"
    print("\n".join([*failed, passed]))
    return 1 if failed else 0
