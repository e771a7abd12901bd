"""Real projects as task material: sdists pinned by sha256, their suites shown to be green.

The lock file names each project's version, sha256, licence, split and the files to mutate. `fetch`
downloads with pip, which checks the sha256 and then asks the sdist's build backend for metadata, as
it would before an installation. Nothing of a project is installed; its code and tests run in the
sandbox only.
"""

import hashlib
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from envs.errors import UserError
from envs.forkserver import ForkServer
from envs.records import Record, Split
from envs.suite import run_suite
from envs.tasks.store import Files

NUM_ORDERED_RUNS = 3  # of five in all, with hash seed 0
RANDOM_SEEDS = (1, 2)  # hash seeds of the other two, and seeds of their order
SUITE_LIMIT_S = 60.0


class Project(Record):
    """One entry of the lock file.

    Attributes:
        split: Where all its tasks go, so that no two splits share a project.
        roots: Folders and files at the top of the sdist that make up the tree, tests included.
        mutated: Files in which bugs are planted.
        excluded_tests: Ids of tests that do not count, and paths of test files that are left out of
            the tree, each with the reason.
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
    excluded_tests: dict[str, str] = Field(default_factory=dict)


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
    if path.is_file() and _sha_of(path) == project.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        wanted = Path(folder) / "requirements.txt"
        pin = f"{project.name}=={project.version}"
        wanted.write_text(f"{pin} --hash=sha256:{project.sha256}\n", "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", project.name, "--require-hashes", "-r", str(wanted)]
        done = subprocess.run(
            [*command, "--dest", folder], capture_output=True, text=True, check=False
        )
        got = Path(folder) / project.sdist
        if done.returncode != 0 or not got.is_file() or _sha_of(got) != project.sha256:
            last = (done.stderr.strip().splitlines() or ["no such file"])[-1]
            raise UserError(
                f"cannot download {pin}",
                got=last[:200],
                remedy=f"put the sdist with sha256 {project.sha256[:12]}... at {path}",
            )
        got.replace(path)
    return path


def read_sdist(project: Project, *, sdist: Path) -> Files:
    """Return the Python files under the project's roots, path to text, without unpacking.

    Test files that the lock file excludes are left out.

    Raises:
        UserError: The licence is not the recorded one, or a file to mutate is missing.
    """
    files: Files = {}
    licence = b""
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            _, _, path = member.name.partition("/")
            data = archive.extractfile(member)
            if data is None:
                continue
            if path == project.licence_file:
                licence = data.read()
            elif path.endswith(".py") and path.split("/")[0] in project.roots:
                files[path] = data.read().decode("utf-8").replace("\r\n", "\n")
    if hashlib.sha256(licence).hexdigest() != project.licence_sha256:
        raise UserError(
            f"the licence of {project.name} is not the recorded one",
            got=project.licence_file,
            remedy="read it, then correct configs/projects.lock.json",
        )
    files = {path: files[path] for path in sorted(files.keys() - project.excluded_tests)}
    missing = [path for path in project.mutated if path not in files]
    if missing:
        raise UserError(
            f"{project.name} lacks files that the lock file names",
            got=", ".join(missing),
            remedy="correct `mutated` or `roots` in configs/projects.lock.json",
        )
    return files


def is_test_file(path: str) -> bool:
    """Tell whether a path belongs to a suite: a test file, a conftest, or any under `tests/`."""
    *folders, name = path.split("/")
    return (
        name == "conftest.py"
        or name.startswith("test_")
        or name.endswith("_test.py")
        or any(folder in ("tests", "test") for folder in folders)
    )


def green_tests(files: Files, *, excluded: Collection[str] = ()) -> tuple[str, ...]:
    """Return the ids of all tests of an unchanged suite, in order, after five runs that agree.

    Three in file order, two in random order with other hash seeds, all in the sandbox. Skipped
    tests and those in `excluded` are not counted.

    Raises:
        UserError: Another test failed in some run, or none passed.
        InfrastructureError: The sandbox failed.
    """
    runs = []
    for seed in (0, *RANDOM_SEEDS):
        orders = [random.Random(seed)] if seed else [None] * NUM_ORDERED_RUNS
        with ForkServer(preload="pytest", hash_seed=seed) as server:
            runs += [
                run_suite(server, files, ids=None, wall_s=SUITE_LIMIT_S, shuffle=shuffle)
                for shuffle in orders
            ]
    green = runs[0].passed.difference(excluded)
    red = {
        test: text
        for run in runs
        for test, text in run.messages.items()
        if test not in excluded and "Skipped:" not in text
    }
    red |= {test: "did not pass in every run" for run in runs for test in green - run.passed}
    if red or not green or not all(run.complete for run in runs):
        first = next(iter(red.items()), ("no test", "passed"))
        raise UserError(
            "the project's suite is not green in five runs",
            got=" ".join(": ".join(first).split())[-300:],
            remedy="pin a release whose suite passes here, or exclude the test with its reason",
        )
    return tuple(sorted(green))


def _sha_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
