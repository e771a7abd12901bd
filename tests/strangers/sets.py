"""Task sets of strangers: a good one, changed, and opened as `tightrope tasks validate` does.

What a grading would do in the sandbox is not tried here.
"""

import json
import random
import shutil
from pathlib import Path

from envs.files import hash_file
from envs.records import Edit, Runtime, Span
from envs.sandbox.interpreter import find_interpreter
from envs.tasks.leaks import find_leak
from envs.tasks.set_python import choose_python
from envs.tasks.store import BuiltTask, Manifest, TaskStore, write_built
from envs.tasks.validate import find_stuck_gold
from tests.envs.small_tasks import io_task, pytest_task
from tests.strangers.mutations import add_file, change_file, change_value, dump, put


def write_good(folder: Path) -> None:
    """Write the set that is changed."""
    tasks = [io_task(), pytest_task()]
    gold = {
        "gold_edits": (Edit(path="calc.py", start=2, end=2, text="    return sum(values)"),),
        "gold_spans": (Span(path="calc.py", start=2, end=2),),
        "runtime": Runtime(environment=(("A", "b"),)),
    }
    tasks = [
        BuiltTask(each.public, each.hidden.model_copy(update=gold), each.workspace, each.tests)
        for each in tasks
    ]
    write_built(folder, tasks=tasks, manifest=Manifest(source="path", seed=0, licence="MIT"))


def make(rng: random.Random, good: Path, folder: Path, outside: Path) -> str:
    """Make a hostile set; returns what was done."""
    shutil.copytree(good, folder)
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        files += [folder / name for name in ("private/hidden.jsonl", "train.jsonl")] * 4
        draw = rng.random()
        if draw < 0.1:
            done.append(add_file(rng, rng.choice([folder, folder / "private"]), outside))
        elif draw < 0.2:
            done.append(_move(rng, folder, outside))
        else:
            done.append(change_file(rng, rng.choice(files), outside))
    if rng.random() < 0.8:
        _reseal(rng, folder, outside)
    return "; ".join(done)


def open_it(folder: Path) -> None:
    """Open and read all of a set, and what its tasks ask for."""
    store = TaskStore.open(folder)
    tasks = store.built()
    cache = Path.cwd() / "cache"
    python = choose_python(store, None, cache_dir=cache)
    for task in tasks:
        find_interpreter(task.hidden.runtime, python=python, cache_dir=cache)
        find_leak(task)
        find_stuck_gold(task)


def _move(rng: random.Random, folder: Path, outside: Path) -> str:
    """Have a folder of the set lie outside."""
    name = rng.choice(["workspaces", "files", "private", "private/tests"])
    if not (folder / name).is_dir() or (folder / name).is_symlink():
        return "nothing moved"
    target = outside / "more" / name.replace("/", "-")
    shutil.move(folder / name, target)
    (folder / name).symlink_to(target)
    return f"{name} lies outside"


def _reseal(rng: random.Random, folder: Path, outside: Path) -> None:
    """Make the manifest agree with the files, as whoever makes a set can."""
    path = folder / "manifest.json"
    try:
        is_plain = path.is_file() and not path.is_symlink() and path.stat().st_size < 2**20
        manifest = json.loads(path.read_bytes()) if is_plain else None
        files = manifest["files"]
        for name in files:
            if (folder / name).is_file() and (folder / name).stat().st_size < 2**20:
                files[name] = hash_file(folder / name)
        if rng.random() < 0.2:
            files[f"../{outside.name}/secret.json"] = hash_file(outside / "secret.json")
        if rng.random() < 0.2:
            change_value(rng, manifest, outside)
        put(path, dump(manifest))
    except (ValueError, TypeError, KeyError, OSError, AttributeError, RecursionError):
        return
