"""Any project in a folder of this machine as task material: read, never written to.

    project, files = open_local(Path("~/mine"), python=Path("~/mine/v/bin/python"), cache_dir=cache)

Its suite must pass under pytest in the sandbox, where it runs from a copy of the folder's text
files, with the packages that the given interpreter has installed. The interpreter itself is started
once to ask where those are; nothing of the project runs outside the sandbox.

Not covered: compiled extensions, pytest plugins and a pytest configuration of the project's own,
suites that need the network or files that are not text.
"""

import os
from collections.abc import Collection
from pathlib import Path

from envs.files import hash_text
from envs.plain_text import representable
from envs.projects.admission import admit
from envs.projects.licences import LICENCE_FILE, recognise_licence
from envs.projects.lock_file import Project
from envs.projects.source_files import read_folder
from envs.records import Split
from envs.sandbox.interpreter import find_interpreter
from envs.tasks.store import Files, hash_tree


def open_local(
    folder: Path,
    *,
    python: Path | None,
    split: Split = "train",
    exclude: Collection[str] = (),
    exclude_red: bool = False,
    cache_dir: Path,
) -> tuple[Project, Files]:
    """Return a project in a folder and its tree, after its suite has passed five times.

    Args:
        folder: Where it lies.
        python: The interpreter with its dependencies and pytest; None for the one that runs this.
        split: Where its tasks go.
        exclude: Test files (left out of the tree), classes, functions or ids that do not count.
        exclude_red: Nor do those that fail in every run, if they are few.
        cache_dir: Where builds keep what they know.

    Raises:
        UserError: It cannot be read, has no tests, is red (with the names of the failing tests) or
            too slow, or the interpreter does not do.
        InfrastructureError: The sandbox failed.
    """
    folder = folder.expanduser().absolute()
    members = read_folder(folder)
    path = str(python.expanduser().absolute()) if python else ""
    entry = Project(
        name=representable(folder.name),
        version="local",
        split=split,
        sdist="",
        sha256="",
        licence=_name_licences(members),
        licence_file="",
        licence_sha256="",
        roots=(),
        mutated=(),
        python=path,
    )
    versions = find_interpreter(entry.runtime, cache_dir=cache_dir).versions
    entry, files = admit(
        entry, members, exclude=exclude, exclude_red=exclude_red, cache_dir=cache_dir
    )
    tree = hash_tree(files)
    made_of = os.fsencode(" ".join([str(folder), tree, *versions]))
    known_by = hash_text(made_of)[:12]
    return entry.model_copy(update={"version": known_by, "sha256": tree}), files


def _name_licences(members: dict[str, bytes]) -> str:
    texts = [data for path, data in members.items() if LICENCE_FILE.fullmatch(path)]
    named = {recognise_licence(text.decode("utf-8", "replace")) or "unknown" for text in texts}
    return " AND ".join(sorted(named)) or "unknown"
