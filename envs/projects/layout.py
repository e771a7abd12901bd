"""What a project's files are: which need a compiler, which are another project's.

What is a source is decided by the tests that execute it (`envs/projects/admission.py`), what is of
the suite by those that are collected (`envs/tasks/suite_files.py`).
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

_COMPILED = {".c", ".cc", ".cpp", ".cxx", ".pyx", ".pxd", ".rs", ".f90", ".so", ".pyd", ".dll"}
_VENDORED = {"_vendor", "_vendored", "vendor", "vendored", "extern"}


def list_compiled(paths: Iterable[str], mutated: Collection[str]) -> list[str]:
    """Return the files that need a compiler, or come out of one, beside a project's sources."""
    folders = {str(PurePosixPath(path).parent) for path in mutated} - {"."}
    return sorted(
        path
        for path in paths
        if PurePosixPath(path).suffix in _COMPILED
        and any(PurePosixPath(path).is_relative_to(folder) for folder in folders)
    )


def is_vendored(path: str) -> bool:
    """Tell whether a file is another project's."""
    return not _VENDORED.isdisjoint(path.split("/"))


def find_import_path(path: str, roots: Sequence[str]) -> str:
    """Return a file's path from that one of `roots` from which it is imported."""
    inside = [root for root in roots if PurePosixPath(path).is_relative_to(root)]
    return str(PurePosixPath(path).relative_to(max(inside, key=len, default=".")))


def _folder(path: str) -> str:
    folder = str(PurePosixPath(path).parent)
    return "" if folder == "." else folder
