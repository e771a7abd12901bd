"""Which files of a project are its suite: those from which tests are collected, and beside them.

No name of a file decides but that of a folder for tests and of conftest.py.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

_SUITE_FOLDERS = {"test", "tests", "testing"}


def find_suite(files: Mapping[str, str], tests: Iterable[str]) -> frozenset[str]:
    """Return the files of a suite: those with tests, every conftest, and what stands with them.

    That is all below a folder named test, tests or testing that holds some, or below one in which
    all Python files do. A file whose only tests are doctests does not belong to it.

    Args:
        files: All files of the project.
        tests: Ids of its tests.
    """
    collected = {test.partition("::")[0] for test in tests if not is_doctest(test, files)}
    python = Counter(_folder(path) for path in files if path.endswith(".py"))
    folders = {
        folder
        for folder, count in Counter(map(_folder, collected)).items()
        if folder and count == python[folder] - _count_support(folder, files)
    }
    above = (parent for path in collected for parent in PurePosixPath(path).parents)
    folders |= {str(parent) for parent in above if parent.name in _SUITE_FOLDERS}
    return frozenset(
        path
        for path in files
        if path in collected
        or PurePosixPath(path).name == "conftest.py"
        or not folders.isdisjoint(map(str, PurePosixPath(path).parents))
    )


def is_doctest(test: str, files: Mapping[str, str]) -> bool:
    """Tell whether a test stands in a docstring or a text file, by its name: that of a module."""
    path, _, name = test.partition("::")
    first = name.partition("[")[0].partition("::")[0]
    if not path.endswith(".py") or not first.isidentifier():
        return True
    if first not in (PurePosixPath(path).stem, PurePosixPath(path).parent.name):
        return False
    return not re.search(rf"\b(def|class)\s+{first}\b", files.get(path, ""))


def _folder(path: str) -> str:
    folder = str(PurePosixPath(path).parent)
    return "" if folder == "." else folder


def _count_support(folder: str, paths: Collection[str]) -> int:
    return sum(f"{folder}/{name}" in paths for name in ("__init__.py", "conftest.py"))
