"""The repository of a benchmark's instances: a folder, read as `tasks build --source path` does.

Programs that need none get an empty tree.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from envs.errors import UserError, list_near
from envs.projects.admission import read_tree
from envs.projects.local_folder import name_python, read_local
from envs.projects.lock_file import Project
from envs.records import Split
from envs.sandbox.interpreter import Interpreter
from envs.tasks.store import Files


@dataclass(frozen=True)
class Repository:
    """A repository, and what runs its tests.

    Attributes:
        project: Split, licence, runtime, tests that do not count.
        files: The tree.
    """

    project: Project
    files: Files = field(repr=False)
    interpreter: Interpreter = field(repr=False)


def open_repository(
    folder: Path,
    *,
    python: Path | None,
    split: Split = "train",
    exclude: Collection[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    cache_dir: Path,
) -> Repository:
    """Return the repository in a folder, with all its files.

    Args:
        folder: Where it lies.
        python: The interpreter with its dependencies and pytest; None for the one that runs this.
        split: Where the tasks go.
        exclude: Test files (left out of the tree), classes, functions or ids that do not count.
        environment: Variables that its tests see.
        cache_dir: Where extra wheels would be installed.

    Raises:
        UserError: It cannot be read, holds no Python, too much, or nothing of a name to exclude, or
            the interpreter does not do.
    """
    entry, members = read_local(
        folder, python=python, split=split, environment=environment, cache_dir=cache_dir
    )
    for each in exclude:
        if (path := each.partition("::")[0]) not in members:
            near = list_near(path, members)
            remedy = f"did you mean {' or '.join(near)}?" if near else "name a file or test id"
            raise UserError("no such file to exclude", got=each, remedy=remedy)
    entry = entry.model_copy(
        update={
            "roots": tuple(sorted({path.partition("/")[0] for path in members})),
            "data": ("",),
            "excluded_tests": dict.fromkeys(exclude, "excluded by hand"),
            "rewrites_asserts": True,
        }
    )
    files = read_tree(entry, members)
    if not any(path.endswith(".py") for path in files):
        raise UserError(
            "the folder holds no project",
            got=f"no Python file in {folder}",
            remedy="name the folder of a Python project, checked out at the instances' commit",
        )
    return Repository(entry, files, entry.find_interpreter(cache_dir=cache_dir))


def without_repository(
    *,
    python: Path | None,
    split: Split = "train",
    environment: Mapping[str, str] = MappingProxyType({}),
    cache_dir: Path,
) -> Repository:
    """Return what programs that need no repository run with.

    Args:
        python: And the others: as above.

    Raises:
        UserError: The interpreter does not do.
    """
    path, version = name_python(python)
    entry = Project(
        version="",
        split=split,
        sdist="",
        sha256="",
        licence="unknown",
        licence_file="",
        licence_sha256="",
        roots=(),
        mutated=(),
        python=path,
        python_version=version,
        environment=tuple(sorted(environment.items())),
        paths=(),
        rewrites_asserts=True,
    )
    return Repository(entry, {}, entry.find_interpreter(cache_dir=cache_dir))
