"""Real projects as task material: sdists pinned by sha256, their suites shown to be green.

The lock file names each project's version, sha256, licence, split and the files to mutate. `fetch`
downloads with pip, which checks the sha256 and then asks the sdist's build backend for metadata, as
it would before an installation. Nothing of a project is installed; its code and tests run in the
sandbox only.
"""

import logging
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from envs.errors import UserError
from envs.files import hash_file, hash_text
from envs.plain_text import representable
from envs.records import Record, Runtime, Split
from envs.sandbox.wheels import run_pip
from envs.source_text import SOURCE_SUFFIX, SourceError, decode_source
from envs.tasks.store import Files

_LOG = logging.getLogger(__name__)


class Project(Record):
    """One entry of the lock file, or a project in a user's own folder (then without an sdist).

    Attributes:
        split: Where all its tasks go, so that no two splits share a project.
        roots: Folders and files at the top of the sdist that make up the tree, tests included.
        mutated: Files in which bugs are planted.
        data: Suffixes of text files that belong to the tree, beside `.py`.
        excluded_tests: Ids of tests that do not count, and paths of test files that are left out of
            the tree, each with the reason.
        requirements: Pins of wheels that the tests need beside pytest (`envs/sandbox/wheels.py`).
        python: Path of a user's interpreter; '' for the one that runs this.
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
    data: tuple[str, ...] = ()
    excluded_tests: dict[str, str] = Field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    python: str = ""
    num_tests: int = 0
    suite_s: float = 0.0

    @property
    def source(self) -> Literal["projects", "path"]:
        """Where it comes from."""
        return "projects" if self.sdist else "path"

    @property
    def origin(self) -> str:
        """The same for a task's record, with its name and version."""
        return f"pypi:{self.name}=={self.version}" if self.sdist else f"path:{self.name}"

    @property
    def runtime(self) -> Runtime:
        """What its tests run with."""
        return Runtime(python=self.python, requirements=self.requirements)


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
        wanted = Path(folder) / "requirements.txt"
        pin = f"{project.name}=={project.version}"
        wanted.write_text(f"{pin} --hash=sha256:{project.sha256}\n", "utf-8")
        command = ["download", "--no-deps", "--no-binary", project.name, "--require-hashes"]
        failure = run_pip([*command, "-r", str(wanted), "--dest", folder])
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
    """Return the files under the project's roots, path to text, without unpacking.

    These are Python files in the encoding that they name and data files in UTF-8, but for test
    files that the lock file excludes.

    Raises:
        UserError: The licence is not the recorded one, or a file to mutate is missing.
    """
    found: dict[str, bytes] = {}
    licence = b""
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            _, _, path = member.name.partition("/")
            data = archive.extractfile(member)
            if data is None:
                continue
            if path == project.licence_file:
                licence = data.read()
            elif path.split("/")[0] in project.roots and path.endswith((".py", *project.data)):
                found[path] = data.read()
    if hash_text(licence) != project.licence_sha256:
        raise UserError(
            f"the licence of {project.name} is not the recorded one",
            got=project.licence_file,
            remedy="read it, then correct configs/projects.lock.json",
        )
    files = texts_of({path: found[path] for path in found.keys() - project.excluded_tests})
    missing = [path for path in project.mutated if path not in files]
    if missing:
        raise UserError(
            f"{project.name} lacks files that the lock file names",
            got=", ".join(missing),
            remedy="correct `mutated` or `roots` in configs/projects.lock.json",
        )
    return files


def texts_of(found: Mapping[str, bytes]) -> Files:
    """Return the texts of Python files and of data in UTF-8, sorted by path, all bytes kept.

    A Python file that is none, and one with a name that is none, is left out and named in the log.
    """
    files: Files = {}
    for path, data in sorted(found.items()):
        try:
            if representable(path) != path:
                raise SourceError("its name is no text")
            text = decode_source(data) if path.endswith(SOURCE_SUFFIX) else text_of(data)
            if text is not None:
                files[path] = text
        except SourceError as error:
            _LOG.warning("left out: %s (%s)", representable(path), error)
    return files


def text_of(data: bytes) -> str | None:
    """Return the text of a data file, or None if it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
