"""Which Python runs a suite in the sandbox, and which packages it finds there.

Either the one that runs this project, with pytest and the wheels that a project's entry pins and
nothing else that happens to be installed; or a user's own, with all that is installed in it.
Editable installations are not followed: a suite imports its project from the tree under test.

Not covered: packages that lie in the standard library's prefix, as they do where this project is
installed without a virtual environment; packages in a user's home (`pip install --user`); Pythons
before 3.11. Tests: tests/envs/sandbox/test_wheels.py.
"""

import contextlib
import itertools
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from envs.errors import UserError
from envs.files import is_inside
from envs.records import Runtime
from envs.sandbox.wheels import install_wheels

START_LIMIT_S = 30.0
_MAX_CHARS = 50_000  # of all variables and paths that tests see
_SET_BY_THE_SANDBOX = frozenset({"HOME", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "USER"})
_ASK = """
import importlib.metadata, json, sys, sysconfig
try:
    pytest = importlib.metadata.version("pytest")
except importlib.metadata.PackageNotFoundError:
    pytest = ""
print(json.dumps({
    "python": sys.version.split()[0], "pytest": pytest,
    "prefixes": [sys.base_prefix, sys.base_exec_prefix, sys.prefix],
    "site": [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")],
    "plugins": sorted({each.name for each in importlib.metadata.entry_points(group="pytest11")}),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python to start a fork-server with.

    Attributes:
        executable: Its absolute path, not resolved: a virtual environment is known by it.
        site: Folders where it finds packages, after its standard library.
        prefixes: What any run may read, besides the system's libraries.
        packages: What runs of suites may read as well.
        hidden: Folders of which nothing is seen but what the above name inside them.
        versions: Of Python and pytest, by which results are known.
        plugins: Names of the pytest plugins that are installed there.
        runtime: What else a suite runs with.
    """

    executable: str
    site: tuple[str, ...]
    prefixes: tuple[str, ...]
    packages: tuple[str, ...]
    hidden: tuple[str, ...]
    versions: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)


def find_interpreter(runtime: Runtime, *, python: str = "", cache_dir: Path) -> Interpreter:
    """Return the interpreter for what a task or a project needs, its wheels installed if need be.

    Args:
        runtime: What it needs.
        python: The user's interpreter, taken where one is needed.
        cache_dir: Where wheels are installed.

    Raises:
        UserError: It is not given, does not start, has no pytest or another version, a wheel cannot
            be had, or the runtime names a variable that is not a suite's or a folder outside the
            project.
    """
    _check_runtime(runtime)
    found = _find_python(runtime.python, python) if runtime.python else find_own_interpreter()
    found = replace(found, runtime=runtime)
    if not runtime.requirements:
        return found
    folder = str(install_wheels(runtime.requirements, cache_dir=cache_dir).resolve())
    return replace(
        found,
        plugins=(*found.plugins, *_plugins(metadata.distributions(path=[folder]))),
        site=(folder, *found.site),
        packages=(*found.packages, folder),
        versions=(*found.versions, folder.rpartition("/")[2]),
    )


@cache
def find_own_interpreter() -> Interpreter:
    """Return the one that runs this project, where a suite sees pytest and no other package."""
    started = (f"{sys.prefix}/bin", f"{sys.prefix}/pyvenv.cfg")  # by suites that start it
    return Interpreter(
        executable=sys.executable,
        site=_distinct([sysconfig.get_path(name) for name in ("purelib", "platlib")]),
        prefixes=_distinct([sys.base_prefix, sys.base_exec_prefix]),
        packages=(*started, *find_files_of("pytest")),
        hidden=tuple(list_package_folders()),
        versions=(sys.version.split()[0], metadata.version("pytest")),
    )


@cache
def ask_interpreter(executable: Path) -> Interpreter:
    """Return another one, after asking it where its packages are.

    Raises:
        UserError: It does not start, is too old, or has no pytest.
    """
    remedy = "name one in --python: `python -m venv v && v/bin/pip install -e . pytest`"
    path = executable.expanduser().absolute()
    try:
        done = subprocess.run(
            [path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=START_LIMIT_S, cwd="/"
        )
        found = json.loads(done.stdout.strip().rpartition("\n")[2])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise UserError(
            "this Python does not start", got=f"{path}: {type(error).__name__}", remedy=remedy
        ) from error
    if tuple(map(int, found["python"].split(".")[:2])) < (3, 11):
        raise UserError("Python 3.11 is the oldest that the sandbox runs", got=found["python"],
                        remedy=remedy)  # fmt: skip
    if not found["pytest"]:
        raise UserError("this Python has no pytest", got=str(path),
                        remedy=f"{path} -m pip install pytest")  # fmt: skip
    site = _distinct(found["site"])
    return Interpreter(
        executable=str(path),
        site=site,
        prefixes=_distinct(found["prefixes"]),
        packages=site,
        hidden=tuple(name for name in list_package_folders() if name not in site),
        versions=(found["python"], found["pytest"]),
        plugins=tuple(found["plugins"]),
    )


def list_package_folders() -> list[str]:
    """Return the folders in which interpreters of this machine look for installed packages.

    A sandbox hides them: among the packages may be the very project that is to be repaired.
    """
    prefixes = dict.fromkeys([sys.prefix, sys.base_prefix, "/usr", "/usr/local"])
    found = [
        str(path)
        for prefix in prefixes
        for name in ("site-packages", "dist-packages")
        for path in Path(prefix).glob(f"lib*/python3*/{name}")
        if not any(folder.is_symlink() for folder in (path, path.parent, path.parent.parent))
    ]
    return list(dict.fromkeys(found))


def find_files_of(distribution: str) -> list[str]:
    """Return the top-level files and folders of a package and of all that it needs."""
    pending, seen, found = [distribution], set[str](), dict[str, None]()
    while pending:
        name = pending.pop()
        seen.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):
            package = metadata.distribution(name)
            tops = {file.parts[0] for file in package.files or [] if ".." not in file.parts}
            found |= dict.fromkeys(str(package.locate_file(top)) for top in sorted(tops))
            needs = map(Requirement, package.requires or [])
            names = {need.name for need in needs if not need.marker or need.marker.evaluate()}
            pending += sorted(names - seen)
    return [name for name in found if Path(name).exists()]


def _find_python(version: str, python: str) -> Interpreter:
    """Return the user's interpreter; a task set may say which version it needs, and no more."""
    remedy = "name a Python with the project's packages and pytest: --python EXE, or tasks.python"
    if not python:
        known = "" if version == "unknown" else f"made with Python {version}"
        raise UserError(
            "these tasks need a Python of yours, which no task set names",
            got=known,
            remedy=f"{remedy}; a set that is built here again finds its own",
        )
    found = ask_interpreter(Path(python))
    if version != "unknown" and version.split(".")[:2] != found.versions[0].split(".")[:2]:
        got = f"{found.versions[0]} in {python}, not {version}"
        raise UserError("these tasks were made with another Python", got=got, remedy=remedy)
    return found


def _check_runtime(runtime: Runtime) -> None:
    """Refuse what a task set, perhaps a stranger's, may not ask for."""
    names = [name for name, value in runtime.environment if not is_variable(name) or "\0" in value]
    paths = [path for path in runtime.paths if not is_inside(path)]
    size = sum(map(len, (*runtime.paths, *itertools.chain(*runtime.environment))))
    if names or paths or size > _MAX_CHARS:
        raise UserError(
            "a task set asks for what no suite may have",
            got=ascii([*names, *paths])[:200] if names or paths else f"{size} characters",
            remedy="build the set again, or take it from somebody whom you trust",
        )


def is_variable(name: str) -> bool:
    """Tell whether a suite may be given a variable: none of Python's, pytest's or the loader's.

    Nor one that the sandbox sets: it would have another value, or lead elsewhere.
    """
    known = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name)
    is_taken = name in _SET_BY_THE_SANDBOX or name.startswith(("PYTHON", "PYTEST", "LD_"))
    return known is not None and not is_taken


def _plugins(packages: Iterable[metadata.Distribution]) -> list[str]:
    """Return the names of the pytest plugins in packages; none of them is imported."""
    found = [
        entry.name for each in packages for entry in each.entry_points.select(group="pytest11")
    ]
    return sorted(set(found))


def _distinct(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name != "/"))
