"""`tightrope tasks VERB`: makes the task set of an experiment, or looks into it.

    tightrope tasks build --config configs/tiny.yaml
    tightrope tasks show t_0123456789ab --config configs/tiny.yaml --private
    tightrope tasks stats --config configs/tiny.yaml

A set that is already there is kept; `--clean` builds it anew. Downloads go to `run.cache`, which
$TIGHTROPE_CACHE moves. Verbs that are not here are files of their own with
`main(argv) -> int`.
"""

import difflib
import json
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from envs.errors import UserError
from envs.records import SPLITS, Split
from envs.source_text import source_lines
from tightrope_cli.tasks import path as tasks_path
from tightrope_cli.tasks.add import LOCK
from tightrope_cli.tasks.build_progress import Stages
from train.config.load import Command, Flag, parse_command
from train.config.settings import TaskSettings
from train.stages.run_dir import cache_dir, tasks_dir

if TYPE_CHECKING:
    from envs.sources.synthetic import SyntheticSettings
    from envs.tasks.store import TaskStore

VERBS = {
    "add": "add a project of PyPI to the lock file of the `projects` source",
    "build": "make tasks and check each with the real grader (gold scores 1, no-op 0)",
    "show": "print one task: statement, files, visible tests; --private adds the answer",
    "stats": "count tasks by split, operator and size; histograms as PNG files",
    "validate": "grade gold and no-op of every task in a folder once more",
    "import": "make a task set of SWE-smith-style instances of a local repository",
}
USAGE = """usage: tightrope tasks VERB [...]

{verbs}

examples:
  tightrope tasks build --config configs/tiny.yaml
  tightrope tasks build --source path --path DIR [--python EXE]
"""


def main(argv: list[str]) -> int:
    """Run one of the verbs; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        rows = [f"  {verb:<9} {text}" for verb, text in VERBS.items()]
        print(USAGE.format(verbs="\n".join(rows)), end="")
        return 0 if argv else 2
    verb, *rest = argv
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1) or ["build"]
        raise UserError(
            "unknown action", got=verb, remedy=f"did you mean `tightrope tasks {near[0]}`?"
        )
    if verb in ("build", "show"):
        return _build(rest) if verb == "build" else _show(rest)
    module = {"import": "import_instances"}.get(verb, verb)
    code: int = import_module(f"tightrope_cli.tasks.{module}").main(rest)
    return code


def _build(argv: list[str]) -> int:
    if tasks_path.is_asked_for(argv):
        return tasks_path.main(argv)
    command = parse_command(
        argv,
        prog="tightrope tasks build",
        description="Make the tasks of an experiment and check each with the real grader.",
        example="tightrope tasks build --config configs/tiny.yaml",
        flags=[Flag("--workers", "sandboxed runs under way at once", kind=int, default=2)],
        common=("--dry-run", "--clean"),
    )
    from envs.sources.build import build
    from train.config.user_functions import is_function, load_function

    tasks, folder = command.settings.tasks, tasks_dir(command.settings)
    counts: dict[Split, int] = {"train": tasks.train, "dev": tasks.dev, "test": tasks.test}
    wanted = ", ".join(f"{count} {split}" for split, count in counts.items())
    if command.dry_run:
        print(f"would build {wanted} tasks ({tasks.source}, seed {tasks.seed}) in {folder}")
        return 0
    if (folder / "manifest.json").is_file() and not command.clean:
        print_counts(_open_same(folder, tasks, counts), folder, note="already built")
        return 0
    with Stages() as stages:
        build(
            tasks.source,
            out_dir=folder,
            counts=counts,
            seed=tasks.seed,
            settings=synthetic_settings(tasks),
            lock=LOCK,
            cache_dir=cache_dir(command.settings),
            workers=command.flags["workers"],
            report=stages.report,
            make_tasks=load_function(tasks.source) if is_function(tasks.source) else None,
        )
    print_counts(open_set(folder, command), folder, note="built")
    return 0


def synthetic_settings(tasks: TaskSettings) -> "SyntheticSettings":
    """Return the sizes of generated tasks that an experiment asks for."""
    from envs.sources.synthetic import SyntheticSettings

    modules, functions = tasks.max_size
    return SyntheticSettings(
        num_modules=(1, modules),
        num_functions=(min(2, functions), functions),
        share_two_sites=tasks.two_site_share,
    )


def _show(argv: list[str]) -> int:
    command = parse_command(
        argv,
        prog="tightrope tasks show",
        description="Print one task.",
        example="tightrope tasks show t_0123456789ab --config configs/tiny.yaml",
        flags=[
            Flag("id", "a task's id, or the start of one"),
            Flag("--private", "show the answer and the hidden tests too", kind=bool),
        ],
        common=[],
    )
    store = open_set(tasks_dir(command.settings), command)
    wanted = command.flags["id"]
    found = [task for name, task in store.public.items() if name.startswith(wanted)]
    if len(found) != 1:
        some = ", ".join(list(store.public)[:3])
        raise UserError(
            "no task has this id" if not found else "several tasks start with this",
            got=wanted,
            remedy=f"ids look like {some}",
        )
    task, hidden = found[0], store.hidden[found[0].id]
    print(f"{task.id} ({task.split}, {task.project}, {task.provenance.licence})\n")
    print(f"{task.statement}\n\nvisible tests: {', '.join(task.visible_tests)}")
    shown = {test.partition("::")[0] for test in task.visible_tests}
    for path, text in store.workspace(task).items():
        if path in shown or (path in task.editable and hidden.grader == "io"):
            print(f"\n--- {path}\n{text.rstrip()}")
        else:
            note = ", editable" if path in task.editable else ""
            print(f"{path} ({len(source_lines(text))} lines{note})")
    if command.flags["private"]:
        print(f"\noperators: {', '.join(hidden.operators)}\n{hidden.gold_patch}")
        print(f"fail to pass: {', '.join(hidden.fail_to_pass)}")
        print(f"pass to pass: {len(hidden.pass_to_pass)} tests")
        for case in hidden.cases:
            print(f"  {case.id}  {case.function}{case.args} gives {case.expected}")
    return 0


def open_set(folder: Path, command: Command) -> "TaskStore":
    """Open the task set of an experiment; one that is missing names the command that makes it."""
    from envs.tasks.store import TaskStore

    if not (folder / "manifest.json").is_file():
        raise UserError(
            "no task set",
            got=str(folder),
            remedy=f"run `tightrope tasks build {command.experiment}`",
        )
    return TaskStore.open(folder)


def _open_same(folder: Path, tasks: TaskSettings, counts: dict[Split, int]) -> "TaskStore":
    """Open a set that is there, if it is the one that the experiment asks for."""
    from envs.sources.build import described
    from envs.tasks.store import TaskStore

    store = TaskStore.open(folder)
    manifest = store.manifest
    asked = described(tasks.source, counts=counts, settings=synthetic_settings(tasks), lock=LOCK)
    if manifest is None or (manifest.source, manifest.seed, manifest.settings) != (
        tasks.source,
        tasks.seed,
        json.loads(json.dumps(asked)),
    ):
        raise UserError(
            "another task set is in this folder",
            got=str(folder),
            remedy="--clean builds it anew, or name another folder in tasks.dir",
        )
    return store


def print_counts(store: "TaskStore", folder: Path, *, note: str) -> None:
    """Print how many tasks each split has."""
    counts = Counter(task.split for task in store.public.values())
    text = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    print(f"{folder}: {text}{f' ({note})' if note else ''}")
