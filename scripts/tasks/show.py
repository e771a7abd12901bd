"""`tightrope tasks show DIR/ID`: prints one task; with `--private` its answer and hidden tests too.

    tightrope tasks show tasks/mine
    tightrope tasks show tasks/mine/t_0123456789ab --private
    tightrope tasks show t_0123456789ab --config configs/tiny.yaml

Of a set without an ID, a line for each task.
"""

from pathlib import Path

from envs.errors import UserError
from envs.records import HiddenTask, RepairTask
from envs.source_text import source_lines
from envs.tasks.store import TaskStore
from tightrope_cli.tasks.first_look import name_count
from tightrope_cli.tasks.task_set import has_config, open_set
from train.config.load import CONFIG, Flag, parse_command, parse_flags

_MOST_LISTED = 40  # tasks, if no id is given
_COLUMNS = 79  # of a terminal, for a line of the list
PRIVATE = Flag("--private", "show the answer and the hidden tests too", kind=bool)


def main(argv: list[str]) -> int:
    """Print the task, or the list; returns the exit code."""
    store, wanted, is_private = _parse(argv)
    if not wanted:
        _print_list(list(store.public.values()))
        return 0
    found = [task for name, task in store.public.items() if name.startswith(wanted)]
    if len(found) != 1:
        what = "several tasks start with this" if found else "no task has this id"
        raise UserError(what, got=wanted, remedy=f"ids look like {', '.join([*store.public][:3])}")
    _print_task(store, found[0])
    if is_private:
        _print_private(store.hidden[found[0].id])
    return 0


def _parse(argv: list[str]) -> tuple[TaskStore, str, bool]:
    """Return the set, the id or its start ('' for all tasks), and whether the answer is shown."""
    prog, example = "tightrope tasks show", "tightrope tasks show DIR/t_0123456789ab"
    about = "DIR/ID of a task (the start of an ID will do), or DIR alone: a line for each task"
    if has_config(argv):
        command = parse_command(
            argv,
            prog=prog,
            description="Print one task of an experiment's set.",
            example="tightrope tasks show t_0123456789ab --config configs/tiny.yaml",
            flags=[Flag("task", "a task's id, or the start of one"), PRIVATE],
            common=[],
        )
        return open_set(command), command.flags["task"], command.flags["private"]
    flags = parse_flags(
        argv,
        prog=prog,
        description="Print one task, or a line for each task of a set.",
        example=example,
        flags=[Flag("task", f"{about}; with --config, an ID", kind=Path), PRIVATE, CONFIG],
    )
    folder: Path = flags["task"]
    if (folder / "manifest.json").is_file():
        return TaskStore.open(folder), "", flags["private"]
    if len(folder.parts) < 2 and not folder.exists():
        remedy = f"{example}, or name its experiment with --config"
        raise UserError("an ID alone names no task set", got=str(folder), remedy=remedy)
    return TaskStore.open(folder.parent), folder.name, flags["private"]


def _print_list(tasks: list[RepairTask]) -> None:
    for task in tasks[:_MOST_LISTED]:
        said = [line.strip() for line in source_lines(task.statement) if line.strip()]
        ends = " ".join(dict.fromkeys((said[0], said[-1])))
        print(f"{task.id} {task.split:<5} {task.project}: {ends}"[:_COLUMNS])
    if len(tasks) > _MOST_LISTED:
        print(f"and {len(tasks) - _MOST_LISTED} more")


def _print_task(store: TaskStore, task: RepairTask) -> None:
    """Print what the agent gets to see of it."""
    print(f"{task.id} ({task.split}, {task.project}, {task.provenance.licence})\n")
    print(f"{task.statement}\n\nvisible tests: {', '.join(task.visible_tests)}")
    shown = {test.partition("::")[0] for test in task.visible_tests}
    is_io = store.hidden[task.id].grader == "io"
    printed = []
    for path, text in store.workspace(task).items():
        if path in shown or (path in task.editable and is_io):
            printed.append(f"\n--- {path}\n{text.rstrip()}")
        else:
            note = ", editable" if path in task.editable else ""
            print(f"{path} ({name_count(len(source_lines(text)), 'line')}{note})")
    print("\n".join(printed))


def _print_private(hidden: HiddenTask) -> None:
    print(f"\noperators: {', '.join(hidden.operators)}\n{hidden.gold_patch}")
    print(f"fail to pass: {', '.join(hidden.fail_to_pass)}")
    print(f"pass to pass: {len(hidden.pass_to_pass)} tests")
    for case in hidden.cases:
        print(f"  {case.id}  {case.function}{case.args} gives {case.expected}")
