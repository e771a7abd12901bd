"""Reads the files of a project out of an sdist or a folder; runs and unpacks nothing.

Tests: tests/envs/projects/test_lock_file.py, tests/envs/projects/test_local_folder.py.
"""

import logging
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from envs.errors import UserError
from envs.grading.pytest_config import CONFIG_FILES
from envs.plain_text import representable
from envs.source_text import SOURCE_SUFFIX, SourceError, decode_source, hold_bytes
from envs.tasks.store import Files

MAX_TREE_BYTES = 8 * 2**20  # of a whole tree, which every run writes anew
MAX_DATA_BYTES = 2**20  # of one file beside the sources, in a folder that is larger than a tree
_LOG = logging.getLogger(__name__)
_SKIPPED = ("__pycache__", "node_modules", "site-packages")
_BUILT = ("_build", "build", "dist", "htmlcov")  # at the top: copies of the project, but packages


def read_archive(sdist: Path) -> dict[str, bytes]:
    """Return the files of an sdist by their path in the project, huge ones left out."""
    with tarfile.open(sdist) as archive:
        return {
            member.name.partition("/")[2]: file.read()
            for member in archive.getmembers()
            if member.size <= MAX_TREE_BYTES
            if (file := archive.extractfile(member)) is not None
        }


@dataclass(frozen=True)
class FolderContent:
    """What a project's folder holds.

    Attributes:
        members: The files that were read, by path.
        skipped: Files and folders that were not, by path, each with its kind.
    """

    members: dict[str, bytes]
    skipped: dict[str, str]


def scan_folder(folder: Path) -> FolderContent:
    """Return the files of a project's folder, and what it skipped.

    Skipped are hidden files, caches, virtual environments, what was built, links, and files that
    no tree can hold; large ones as well where all together are more than that.

    Raises:
        UserError: There is no such folder, or something in it may not be read.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise UserError(what, got=str(folder), remedy="name the folder of a project")
    found, skipped = dict[str, Path](), dict[str, str]()
    try:
        for path, kind in _walk(folder):
            name = path.relative_to(folder).as_posix()
            if kind:
                skipped[name] = kind
            else:
                found[name] = path
        sizes = {name: path.stat().st_size for name, path in found.items()}
        for most in (MAX_TREE_BYTES, MAX_DATA_BYTES):
            if sum(sizes.values()) > MAX_TREE_BYTES:
                data = [name for name in sizes if not name.endswith(SOURCE_SUFFIX)]
                large = {name for name in data if sizes[name] > most}
                skipped |= dict.fromkeys(sorted(large), f"above {most // 2**20} MiB")
                sizes = {name: size for name, size in sizes.items() if name not in large}
        members = {name: found[name].read_bytes() for name in sizes}
    except PermissionError as error:
        raise UserError(
            "no permission to read the project",
            got=str(error.filename),
            remedy="run this as a user who may read all of it",
        ) from error
    return FolderContent(members, skipped)


def decode_files(found: Mapping[str, bytes]) -> Files:
    """Return the texts of Python files and of other files, sorted by path, all bytes kept.

    A Python file that is none, and one with a name that is none, is left out and named in the log.
    """
    files: Files = {}
    for path, data in sorted(found.items()):
        try:
            if representable(path) != path:
                raise SourceError("its name is no text")
            is_source = path.endswith(SOURCE_SUFFIX)
            files[path] = decode_source(data) if is_source else decode_data(data)
        except SourceError as error:
            _LOG.warning("left out: %s (%s)", representable(path), error)
    return files


def decode_data(data: bytes) -> str:
    """Return the text of a data file; of one that is not UTF-8, what `hold_bytes` makes of it."""
    try:
        return hold_bytes(data) if data.startswith(b"\0") else data.decode("utf-8")
    except UnicodeDecodeError:
        return hold_bytes(data)


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file with '', and what is skipped with its kind."""

    def refuse(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=refuse):
        here = Path(where)
        kinds = {name: _skip_folder(here / name, top=here == folder) for name in sorted(folders)}
        folders[:] = [name for name, kind in kinds.items() if not kind]
        yield from ((here / name, kind) for name, kind in kinds.items() if kind)
        for name in sorted(names):
            path, kind = here / name, ""
            if name.startswith(".") and name not in CONFIG_FILES:
                kind = "hidden"
            elif path.is_symlink() or not path.is_file():
                kind = "links"
            yield path, kind


def _skip_folder(path: Path, *, top: bool) -> str:
    """Return of what kind a folder is, if it is not looked into."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "links"
    if (path / "pyvenv.cfg").exists():
        return "virtual environment"
    if path.name in _SKIPPED or path.name.endswith(".egg-info"):
        return "made by tools"
    if top and path.name in _BUILT and not (path / "__init__.py").exists():
        return "built"
    return ""
