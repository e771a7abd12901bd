"""What a project's files are: which need a compiler, which are another project's or pytest's.

What is a source is decided by the tests that execute it, what is of the suite by those that are
collected (`envs/tasks/suite_files.py`).
"""

import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from envs.mutation.operators import list_mutations
from envs.projects.baseline import Measured
from envs.projects.lock_file import Project
from envs.projects.refusal import Refusal
from envs.sandbox.child_coverage import LINES_PER_FILE, read_trace
from envs.sandbox.interpreter import Interpreter
from envs.source_text import SOURCE_SUFFIX
from envs.tasks.store import Files
from envs.tasks.suite_files import find_suite

_COMPILED = {".c", ".cc", ".cpp", ".cxx", ".pyx", ".pxd", ".rs", ".f90", ".so", ".pyd", ".dll"}
_VENDORED = {"_vendor", "_vendored", "vendor", "vendored", "extern"}
MIN_REACHED_SITES = 5  # bugs that a test would execute, below which a file is left alone
_OF_PYTEST = {"_pytest", "iniconfig", "packaging", "pluggy", "py", "pygments", "pytest"}


def list_sources(files: Files, tests: Sequence[str]) -> list[str]:
    """Return the project's own files with enough places for bugs.

    Of a file that was compiled the copy would be run, or read, and not the file.
    """
    suite = find_suite(files, tests)
    compiled = {_name_module(path) for path in files if PurePosixPath(path).suffix in _COMPILED}
    return [
        path
        for path in sorted(files)
        if path.endswith(SOURCE_SUFFIX)
        and path not in suite
        and not is_vendored(path)
        and _name_module(path) not in compiled
        and len(_site_lines(files[path])) >= MIN_REACHED_SITES
    ]


def find_reached(files: Files, measured: Measured) -> tuple[str, ...]:
    """Return the traced files in which tests execute enough code that could be changed.

    Code that runs at import only does not count: what breaks there breaks every test.
    """
    traces = [read_trace(written)[0] for test, written in measured.traces[0].items() if test]
    reached = frozenset[int]().union(*(known for known in traces if known is not None))
    return tuple(
        path
        for number, path in enumerate(measured.traced)
        if sum(number * LINES_PER_FILE + line in reached for line in _site_lines(files[path]))
        >= MIN_REACHED_SITES
    )


def refuse_places(
    refusal: Refusal,
    mutated: Sequence[str],
    entry: Project,
    members: Collection[str],
    files: Files,
    interpreter: Interpreter,
) -> None:
    """Refuse a project in which no bug can be planted, or of which the sandbox holds a copy."""
    if not mutated:
        refusal.add(
            "its tests execute no function worth changing",
            remedy="test functions of the project's own files",
        )
    compiled = list_compiled(members, mutated)
    if compiled and (refusal or entry.source == "projects"):  # else its tests pass without, or with
        refusal.add(
            f"not pure Python: {compiled[0]}", remedy="only pure Python can be run from a tree"
        )
    refuse_copies(refusal, mutated, entry, files, interpreter)


def refuse_parts_of_pytest(
    refusal: Refusal, entry: Project, members: Collection[str], interpreter: Interpreter
) -> None:
    """Refuse a project that the interpreter's pytest imports from the project's own folder."""
    imported = {find_import_path(path, entry.paths) for path in members}
    for module in sorted(_OF_PYTEST):
        own = {f"{module}/__init__.py", f"{module}.py"}
        places = [Path(site, name) for site in interpreter.site for name in own]
        if imported & own and not any(place.exists() for place in places):
            _refuse_loaded(refusal, module)


def _refuse_loaded(refusal: Refusal, module: str) -> None:
    owner = "pytest itself" if module in _OF_PYTEST else "Python itself"
    refusal.add(
        f"{owner} runs on {module}, which is loaded before any test is",
        remedy="take another project: bugs in this one would not be seen",
    )


def refuse_copies(
    refusal: Refusal,
    mutated: Sequence[str],
    entry: Project,
    files: Files,
    interpreter: Interpreter,
) -> None:
    """Refuse files that are loaded before any test is, or of which the sandbox holds a copy."""
    imported = {find_import_path(path, entry.paths) for path in files}
    for path in mutated:
        inside = find_import_path(path, entry.paths)
        module = inside.partition("/")[0].removesuffix(".py")
        if module in _OF_PYTEST | sys.stdlib_module_names:
            _refuse_loaded(refusal, module)
            continue
        # Of a namespace package other parts may well be there.
        is_whole = bool(imported & {f"{module}/__init__.py", f"{module}.py"})
        copies = [
            copy
            for folder in interpreter.site
            for copied in (inside, *([module, f"{module}.py"] if is_whole else []))
            if (copy := Path(folder, copied)).exists()
            and any(copy.is_relative_to(package) for package in interpreter.packages)
        ]
        if copies:
            install = shlex.join([entry.python or "python", "-m", "pip", "install", "-e"])
            refusal.add(
                f"submitted code could read a copy of {module} (in {copies[0].parent})",
                remedy=f"install the project with `{install} FOLDER`, or remove it there",
            )


def list_compiled(paths: Iterable[str], mutated: Collection[str]) -> list[str]:
    """Return the files that need a compiler, or come out of one, beside a project's sources."""
    folders = {str(PurePosixPath(path).parent) for path in mutated} - {"."}
    return sorted(
        path
        for path in paths
        if PurePosixPath(path).suffix in _COMPILED
        and any(PurePosixPath(path).is_relative_to(folder) for folder in folders)
    )


def _name_module(path: str) -> str:
    """Return a file's path without its suffixes, such as `.cpython-311-x86_64-linux-gnu.so`."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def is_vendored(path: str) -> bool:
    """Tell whether a file is another project's."""
    return not _VENDORED.isdisjoint(path.split("/"))


def find_import_path(path: str, roots: Sequence[str]) -> str:
    """Return a file's path from that one of `roots` from which it is imported."""
    inside = [root for root in roots if PurePosixPath(path).is_relative_to(root)]
    return str(PurePosixPath(path).relative_to(max(inside, key=len, default=".")))


def _site_lines(text: str) -> list[int]:
    """Return the line of each bug that can be planted in a file."""
    try:
        return [site.line for site in list_mutations(text)]
    except (SyntaxError, ValueError, RecursionError):  # another Python's, or data as source
        return []
