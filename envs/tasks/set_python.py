"""Which of the user's interpreters runs the suites of a task set: no set may say it.

A build notes in the cache what it used, by the sha256 of the set's manifest, which names all else
in the set. For a set from elsewhere the user names one. Tests: tests/envs/tasks/test_set_python.py.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from envs.errors import UserError
from envs.files import hash_file, to_json, write_whole
from envs.tasks.store import BuiltTask, Manifest, TaskStore, write_built


def write_for(
    python: str,
    folder: Path,
    *,
    tasks: Iterable[BuiltTask],
    manifest: Manifest,
    cache_dir: Path,
) -> Manifest:
    """Write a set as `write_built` does, and note what its build used.

    Args:
        python: The user's interpreter; '' if none was needed.
        folder: And the others: as there.
        cache_dir: Where the note is kept.
    """
    whole = write_built(folder, tasks=tasks, manifest=manifest)
    if python:
        write_whole(_find_note(folder, cache_dir), to_json({"python": python}) + "\n")
    return whole


def choose_python(store: TaskStore, given: str | None, *, cache_dir: Path) -> str:
    """Return what runs the suites of a set: what the user names, else what its build here used.

    Raises:
        UserError: One is named and no suite needs it.
    """
    is_needed = any(hidden.runtime.python for hidden in store.hidden.values())
    if given and not is_needed:
        raise UserError(
            "no suite of these tasks needs a Python of yours",
            got=given,
            remedy="leave tasks.python (--python) out",
        )
    if given or not is_needed or store.folder is None:
        return given or ""
    for cache in (cache_dir, home_cache()):
        try:
            return str(json.loads(_find_note(store.folder, cache).read_bytes())["python"])
        except (OSError, ValueError):
            continue
    return ""


def home_cache() -> Path:
    """Return the cache of builds that may not write where the usual one lies."""
    return Path.home() / ".cache" / "tightrope"


def _find_note(folder: Path, cache_dir: Path) -> Path:
    return cache_dir / "runtimes" / f"{hash_file(folder / 'manifest.json')}.json"
