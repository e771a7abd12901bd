"""Real projects as task material: sdists pinned by sha256, their suites shown to be green.

The lock file names each project's version, sha256, licence, split and the files to mutate. `fetch`
downloads with pip, which checks the sha256 and then asks the sdist's build backend for metadata, as
it would before an installation. Nothing of a project is installed; its code and tests run in the
sandbox only.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from envs.errors import UserError
from envs.files import hash_file, hash_text, write_whole
from envs.grading.pytest_config import CONFIG_FILES
from envs.projects.source_files import decode_files, read_archive
from envs.records import SPLITS, Record, Runtime, Split
from envs.sandbox.interpreter import Interpreter, find_interpreter
from envs.sandbox.wheels import download_sdist
from envs.source_text import SOURCE_SUFFIX
from envs.tasks.store import Files


class Project(Record):
    """One entry of the lock file, or a project in a user's own folder (then without an sdist).

    Attributes:
        split: Where its tasks go, so that no two splits share a project.
        file_splits: Of a project that is split by file, where those in each mutated file go.
        roots: Folders and files at the top of the sdist that make up the tree, tests included.
        mutated: Files in which bugs are planted.
        data: Suffixes of other files that belong to the tree, beside `.py`; '' stands for all.
        suite: Files of the suite; none recorded for those whose names say it.
        excluded_tests: Ids, functions and files of tests that are not run, each with the reason;
            files are left out of the tree.
        requirements: Pins of wheels that the tests need beside pytest (`envs/sandbox/wheels.py`).
        python: Path of a user's interpreter; '' for the one that runs this.
        python_version: Of that interpreter.
        environment: Names and values of variables that the tests see.
        paths: Folders of the tree from which its modules are imported, beside its root.
        rewrites_asserts: The tests need asserts as pytest rewrites them.
        num_tests: Tests that passed in five runs when the project was added; 0 if not recorded.
        suite_s: CPU seconds that one run of them took then; 0 if not recorded.
    """

    name: str = ""
    version: str
    split: Split
    sdist: str
    sha256: str
    licence: str
    licence_file: str
    licence_sha256: str
    roots: tuple[str, ...]
    mutated: tuple[str, ...]
    file_splits: dict[str, Split] = Field(default_factory=dict)
    data: tuple[str, ...] = ()
    suite: tuple[str, ...] = ()
    excluded_tests: dict[str, str] = Field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    python: str = ""
    python_version: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ("src",)
    rewrites_asserts: bool = False
    num_tests: int = 0
    suite_s: float = 0.0

    @property
    def source(self) -> Literal["projects", "path"]:
        """Where it comes from."""
        return "projects" if self.sdist else "path"

    @property
    def own_files(self) -> tuple[str, ...]:
        """Those of the mutated files whose tasks go to its split."""
        splits = self.file_splits
        return tuple(path for path in self.mutated if splits.get(path, self.split) == self.split)

    def list_parts(self) -> "list[Project]":
        """Return the project once for each split that has tasks of it."""
        splits = sorted({*self.file_splits.values()}, key=SPLITS.index) or [self.split]
        return [self.model_copy(update={"split": split}) for split in splits]

    @property
    def origin(self) -> str:
        """The same for a task's record, with its name and version."""
        return f"pypi:{self.name}=={self.version}" if self.sdist else f"path:{self.name}"

    @property
    def runtime(self) -> Runtime:
        """What its tests need, as tasks say it."""
        return Runtime(
            python=self.python_version,
            requirements=self.requirements,
            environment=self.environment,
            paths=self.paths,
            rewrites_asserts=self.rewrites_asserts,
        )

    def find_interpreter(self, *, cache_dir: Path) -> Interpreter:
        """Return what runs its tests; raises as `envs.sandbox.interpreter.find_interpreter`."""
        return find_interpreter(self.runtime, python=self.python, cache_dir=cache_dir)


def load_lock(path: Path) -> list[Project]:
    """Return the pinned projects.

    Raises:
        UserError: The file is missing or not a lock file.
    """
    remedy = "restore configs/projects.lock.json from the repository"
    try:
        found = TypeAdapter(dict[str, Project]).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError("no lock file of projects", got=str(path), remedy=remedy) from None
    except ValidationError as error:
        got = f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        raise UserError("the lock file of projects is damaged", got=got, remedy=remedy) from None
    return [entry.model_copy(update={"name": name}) for name, entry in found.items()]


def write_lock(path: Path, entries: Sequence[Project]) -> None:
    """Write the lock file whole or not at all; defaults are left out."""
    text = {
        entry.name: entry.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        for entry in entries
    }
    write_whole(path, json.dumps(text, indent=2) + "\n")


def fetch(project: Project, *, cache_dir: Path) -> Path:
    """Return the project's sdist in the cache, downloaded first if it is not there.

    Raises:
        UserError: pip cannot get it, or what it got has another sha256.
    """
    path = cache_dir / "sdists" / project.sdist
    if path.is_file() and hash_file(path) == project.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pin = f"{project.name}=={project.version}"
        wanted = f"{pin} --hash=sha256:{project.sha256}"
        failure = download_sdist(wanted, name=project.name, folder=Path(folder))
        got = Path(folder) / project.sdist
        if failure or not got.is_file() or hash_file(got) != project.sha256:
            raise UserError(
                f"cannot download {pin}",
                got=failure or "no such file",
                remedy=f"put the sdist with sha256 {project.sha256[:12]}... at {path}",
            )
        got.replace(path)
    return path


def read_sdist(project: Project, *, sdist: Path) -> Files:
    """Return the project's tree out of its sdist, without unpacking.

    Raises:
        UserError: The licence is not the recorded one, or a file to mutate is missing.
    """
    members = read_archive(sdist)
    if hash_text(members.get(project.licence_file, b"")) != project.licence_sha256:
        raise UserError(
            f"the licence of {project.name} is not the recorded one",
            got=project.licence_file,
            remedy="read it, then correct configs/projects.lock.json",
        )
    files = select_tree(project, members)
    missing = [path for path in project.mutated if path not in files]
    if missing:
        raise UserError(
            f"{project.name} lacks files that the lock file names",
            got=", ".join(missing),
            remedy="correct `mutated` or `roots` in configs/projects.lock.json",
        )
    return files


def select_tree(project: Project, members: Mapping[str, bytes]) -> Files:
    """Return the files under the project's roots, path to text.

    These are Python files, pytest's configuration and data files, but for test files that its
    entry excludes.
    """
    suffixes = (SOURCE_SUFFIX, *project.data, *CONFIG_FILES)
    return decode_files(
        {
            path: data
            for path, data in members.items()
            if path.endswith(suffixes)
            and path.partition("/")[0] in project.roots
            and path not in project.excluded_tests
        }
    )
