"""`tightrope tasks validate DIR`: grades gold and no-op of every task of a set once more.

    tightrope tasks validate .cache/tightrope/tasks/synthetic-0123456789ab

Gold must score 1, no-op 0, through the grader that also scores episodes on this machine; and no
part of an answer may show. The tasks that fail are printed with the reason, and the exit code is 1.
"""

from pathlib import Path

from envs.tasks.store import TaskStore
from tightrope_cli.tasks.task_set import WORKERS, check_tasks
from train.config.load import Flag, parse_flags


def main(argv: list[str]) -> int:
    """Check a set; returns 0 if all its tasks pass."""
    flags = parse_flags(
        argv,
        prog="tightrope tasks validate",
        description="Grade gold and no-op of every task of a set once more.",
        example="tightrope tasks validate .cache/tightrope/tasks/synthetic-0123456789ab",
        flags=[
            Flag("dir", "folder of the task set", kind=Path),
            WORKERS,
        ],
    )

    tasks = list(TaskStore.open(flags["dir"]).built())
    failed = [
        f"{checked.task.public.id}: {checked.reject}"
        for checked in check_tasks(tasks, workers=flags["workers"])
        if checked.reject is not None
    ]
    passed = f"{flags['dir']}: {len(tasks) - len(failed)} of {len(tasks)} tasks pass"
    print("\n".join([*failed, passed]))
    return 1 if failed else 0
