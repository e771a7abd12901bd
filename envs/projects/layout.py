"""Finds a project's packages, tests and data in a list of its files, without running anything.

Looks at names only, as pytest does: packages at the top or under `src`, modules at the top, tests
in `test_*.py` and `*_test.py`. Documentation, examples and tools are left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from envs.grading.test_suite import is_collected, is_test_file
from envs.plain_text import representable
from envs.projects.source_files import MAX_DATA_BYTES, decode_data

_COMPILED = {".c", ".cc", ".cpp", ".cxx", ".pyx", ".pxd", ".rs", ".f90", ".so", ".pyd", ".dll"}
_NOT_MATERIAL = re.compile(
    r"\..*|_build|bench.*|bin|build|ci|dist|docs?|dev(elopment)?|etc|examples?|extras?|fuzz.*|"
    r"node_modules|notebooks|perf|profiling|release|requirements|samples|scripts|site|sphinx|"
    r"tasks?|tools?|tutorials?|typing|website",
    re.IGNORECASE,
)
_NOT_MODULES = re.compile(
    r"conf|dodo|ez_setup|fabfile|noxfile|pavement|release|run_?tests|setup(base)?|tasks|"
    r"versioneer|wscript"
)
_VENDORED = {"_vendor", "_vendored", "vendor", "vendored", "extern", "packages"}


@dataclass(frozen=True)
class Layout:
    """Where things are.

    Attributes:
        roots: Folders and files at the top that make up the tree, tests included.
        modules: Names under which the project is imported.
        sources: Files in which bugs may be planted.
        tests: Files with tests.
        data: Suffixes of the other text files in the tree.
        compiled: Files that need a compiler, or come out of one.
    """

    roots: tuple[str, ...]
    modules: tuple[str, ...]
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    data: tuple[str, ...]
    compiled: tuple[str, ...]


def find_layout(members: Mapping[str, bytes]) -> Layout:
    """Return where things are in a project, given its files by path."""
    members = {path: data for path, data in members.items() if path == representable(path)}
    python = [path for path in sorted(members) if path.endswith(".py")]
    roots = {path.partition("/")[0] for path in python if _is_material(path, members)}
    inside = [path for path in sorted(members) if path.partition("/")[0] in roots]
    own = [path for path in inside if path.endswith(".py") and not is_test_file(path)]
    return Layout(
        roots=tuple(sorted(roots)),
        modules=tuple(sorted({_module(path) for path in own if path != "src/__init__.py"})),
        sources=tuple(path for path in own if not _VENDORED.intersection(path.split("/"))),
        tests=tuple(path for path in inside if is_collected(path)),
        data=tuple(sorted({_suffix(path) for path in inside if _is_data(path, members[path])})),
        compiled=tuple(
            path for path in inside if _suffix(path) in _COMPILED and not is_test_file(path)
        ),
    )


def _is_material(path: str, members: Mapping[str, bytes]) -> bool:
    top, slash, rest = path.partition("/")
    if not slash:
        return not _NOT_MODULES.fullmatch(PurePosixPath(top).stem)
    if _NOT_MATERIAL.fullmatch(top):
        return False
    holds_package = f"{top}/__init__.py" in members or top in ("src", "test", "tests")
    return holds_package or (is_test_file(path) and "/" not in rest)


def _module(path: str) -> str:
    parts = path.split("/")
    inner = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    return inner[0].removesuffix(".py")


def _is_data(path: str, data: bytes) -> bool:
    if path.endswith(".py") or not _suffix(path) or len(data) > MAX_DATA_BYTES:
        return False
    return b"\0" not in data and decode_data(data) is not None


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix
