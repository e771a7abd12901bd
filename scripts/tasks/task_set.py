"""What verbs of `tightrope tasks` share: their flags, and how a set is opened, refused, counted."""

from collections import Counter
from pathlib import Path

from envs.errors import UserError
from envs.records import SPLITS
from envs.tasks.store import TaskStore
from train.config.load import Command, Flag
from train.stages.run_dir import tasks_dir

LOCK = Path(__file__).resolve().parents[2] / "configs" / "projects.lock.json"
CLEAN = Flag("--clean", "replace a task set that is there", kind=bool)
SPLIT = Flag("--split", "where the tasks go", default="train", choices=SPLITS)
WORKERS = Flag("--workers", "sandboxed runs at once", kind=int, default=2, least=1)
EXCLUDE = Flag("--exclude", "test files, functions or ids that do not count", nargs="*")


def refuse_existing(folder: Path, *, clean: bool) -> None:
    """Raise UserError if a set is in the folder, unless it may be replaced."""
    if (folder / "manifest.json").is_file() and not clean:
        remedy = "use it with --tasks.dir, replace it with --clean, or name another --out"
        raise UserError("a task set is there already", got=str(folder), remedy=remedy)


def has_config(argv: list[str]) -> bool:
    """Tell whether a line names an experiment, and no folder of a set then."""
    return any(word == "--config" or word.startswith("--config=") for word in argv)


def open_set(command: Command) -> TaskStore:
    """Open the task set of an experiment; one that is missing names the command that makes it."""
    folder = tasks_dir(command.settings)
    if not (folder / "manifest.json").is_file():
        remedy = f"run `tightrope tasks build {command.experiment}`"
        raise UserError("no task set", got=str(folder), remedy=remedy)
    return TaskStore.open(folder)


def print_counts(folder: Path, store: TaskStore, *, note: str = "") -> None:
    """Print how many tasks each split has."""
    counts = Counter(task.split for task in store.public.values())
    text = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    print(f"{folder}: {text}{f' ({note})' if note else ''}")
