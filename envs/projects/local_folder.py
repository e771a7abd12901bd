"""Any project in a folder of this machine as task material: read, never written to.

    project, files = open_local(Path("~/mine"), python=Path("~/mine/v/bin/python"), cache_dir=cache)

Its suite must pass under pytest in the sandbox, where it runs from a copy of the folder's text
files, with the packages that the given interpreter has installed. The interpreter itself is started
once to ask where those are; nothing of the project runs outside the sandbox.

Not covered: compiled extensions, pytest plugins and a pytest configuration of the project's own,
suites that need the network or files that are not text.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from envs.errors import UserError
from envs.files import hash_text
from envs.plain_text import representable
from envs.projects.admission import Exclusions, admit
from envs.projects.layout import MAX_DATA_BYTES, MAX_TREE_BYTES, find_layout
from envs.projects.licences import LICENCE_FILE, licence_of
from envs.projects.lock_file import Project, texts_of
from envs.records import Split
from envs.sandbox.interpreter import find_interpreter
from envs.source_text import SOURCE_SUFFIX
from envs.tasks.store import Files, content_sha

_LOG = logging.getLogger(__name__)
_SKIPPED = ("__pycache__", "node_modules", "site-packages")


def open_local(
    folder: Path,
    *,
    python: Path | None,
    split: Split = "train",
    exclusions: Exclusions = Exclusions(),  # noqa: B008 (frozen)
    cache_dir: Path,
) -> tuple[Project, Files]:
    """Return a project in a folder and its tree, after its suite has passed five times.

    Args:
        folder: Where it lies.
        python: The interpreter with its dependencies and pytest; None for the one that runs this.
        split: Where its tasks go.
        exclusions: Tests that shall not count.
        cache_dir: Where builds keep what they know.

    Raises:
        UserError: It cannot be read, has no tests, is red (with the names of the failing tests) or
            too slow, or the interpreter is of no use.
        InfrastructureError: The sandbox failed.
    """
    folder = folder.expanduser().absolute()
    members = _members(folder)
    path = str(python.expanduser().absolute()) if python else ""
    entry = Project(
        name=representable(folder.name),
        version="local",
        split=split,
        sdist="",
        sha256="",
        licence=_licence(members),
        licence_file="",
        licence_sha256="",
        roots=(),
        mutated=(),
        python=path,
    )
    versions = find_interpreter(entry.runtime, cache_dir=cache_dir).versions
    layout = find_layout(members)

    def wanted(path: str) -> bool:
        is_read = path.endswith((SOURCE_SUFFIX, *layout.data))
        is_left_out = path in layout.tests and path in exclusions.names
        return is_read and PurePosixPath(path).parts[0] in layout.roots and not is_left_out

    entry, files = admit(
        entry,
        layout=layout,
        read_tree=_reader(texts_of({path: members[path] for path in members if wanted(path)})),
        exclusions=exclusions,
        cache_dir=cache_dir,
    )
    tree = content_sha(files)
    made_of = os.fsencode(" ".join([str(folder), tree, *versions]))
    known_by = hash_text(made_of)[:12]
    return entry.model_copy(update={"version": known_by, "sha256": tree}), files


def _members(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder that may matter, by path.

    Raises:
        UserError: There is no such folder, or something in it may not be read.
    """
    if not folder.is_dir():
        raise UserError(
            "no such folder", got=str(folder), remedy="name a project's folder in --path"
        )
    members: dict[str, bytes] = {}
    try:
        for path in _paths(folder):
            name = path.relative_to(folder).as_posix()
            if name != representable(name):
                _LOG.warning("left out: %s (its name is no text)", representable(name))
            elif path.suffix == SOURCE_SUFFIX or path.stat().st_size <= MAX_DATA_BYTES:
                members[name] = path.read_bytes()
    except PermissionError as error:
        raise UserError(
            "no permission to read the project",
            got=str(error.filename),
            remedy="build as a user who may read all of it",
        ) from error
    return members


def _paths(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, but for hidden ones, caches and virtual environments."""

    def refuse(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=refuse):
        here = Path(where)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not name.endswith(".egg-info")
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            path = here / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _reader(texts: Files) -> Callable[[Project], Files]:
    """Return what reads the tree that an entry names out of `texts`."""

    def read(entry: Project) -> Files:
        files: Files = {}
        for path, text in texts.items():
            wanted = (
                path.endswith((SOURCE_SUFFIX, *entry.data)) and path not in entry.excluded_tests
            )
            if wanted and PurePosixPath(path).parts[0] in entry.roots:
                files[path] = text
        size = sum(map(len, files.values()))
        if size > MAX_TREE_BYTES:
            raise UserError(
                "the project is too large to copy for every run",
                got=f"{size / 2**20:.0f} MiB",
                remedy=f"name a part of it below {MAX_TREE_BYTES // 2**20} MiB in --path",
            )
        return files

    return read


def _licence(members: dict[str, bytes]) -> str:
    texts = [data for path, data in members.items() if LICENCE_FILE.fullmatch(path)]
    named = {licence_of(text.decode("utf-8", "replace")) or "unknown" for text in texts}
    return " AND ".join(sorted(named)) or "unknown"
