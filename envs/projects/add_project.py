"""Adds one project of PyPI to the lock file, or says why it gives no tasks.

    entry = add("semver==3.1.1", split="train", lock=path, cache_dir=folder)

The sdist is looked at without unpacking it: the text of its licence, its layout, whether it needs a
compiler. Then its suite runs (`envs/projects/admission.py`).

Not covered: sdists that are not tar.gz, suites that need more than pytest and pure-Python wheels.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename

from envs.errors import UserError
from envs.files import hash_file, hash_text
from envs.projects.admission import admit
from envs.projects.baseline import keep_measured
from envs.projects.licences import LICENCE_FILE, find_other_licence, recognise_licence
from envs.projects.lock_file import Project, load_lock, write_lock
from envs.projects.refusal import Command
from envs.projects.repair_task import MAX_SUITE_CPU_S
from envs.projects.source_files import read_archive
from envs.records import Split
from envs.sandbox.wheels import download_sdist, pin_wheels


def add(
    wanted: str,
    *,
    split: Split,
    lock: Path,
    cache_dir: Path,
    exclude: Collection[str] = (),
    requires: Sequence[str] = (),
) -> Project:
    """Add a project to the lock file and return its entry.

    Args:
        wanted: Its name on PyPI, perhaps with `==VERSION`.
        split: Where its tasks go.
        lock: The lock file, rewritten at the end.
        cache_dir: Where sdists and wheels are kept.
        exclude: Test files and folders (left out of the tree), classes, functions or ids that do
            not count.
        requires: Packages that its code or its tests need beside pytest.

    Raises:
        UserError: It gives no tasks, for the reason given.
        InfrastructureError: The sandbox failed.
    """
    try:
        requirement = Requirement(wanted)
    except InvalidRequirement as error:
        remedy = "name it as PyPI does, perhaps with ==VERSION"
        raise UserError("no name of a project", got=wanted, remedy=remedy) from error
    name = canonicalize_name(requirement.name)
    known = load_lock(lock)
    if any(entry.name == name for entry in known):
        raise UserError(
            "the project is in the lock file", got=name, remedy=f"delete it from {lock}"
        )
    sdist = _get_sdist(requirement, folder=cache_dir / "sdists")
    members = read_archive(sdist)
    licence_file, licence = _find_licence(name, members)
    entry = Project(
        name=name,
        version=str(parse_sdist_filename(sdist.name)[1]),
        split=split,
        sdist=sdist.name,
        sha256=hash_file(sdist),
        licence=licence,
        licence_file=licence_file,
        licence_sha256=hash_text(members[licence_file]),
        roots=(),
        mutated=(),
        requirements=pin_wheels(requires, cache_dir=cache_dir) if requires else (),
    )
    words = ["tightrope", "tasks", "add", wanted, "--split", split]
    words += ["--requires", *requires] if requires else []
    command = Command(words, exclude, bounds_suite=False)
    found = admit(entry, members, command=command, suite_s=MAX_SUITE_CPU_S, cache_dir=cache_dir)
    keep_measured(found.measured, found.entry, files=found.files, cache_dir=cache_dir)
    write_lock(lock, [*load_lock(lock), found.entry])
    return found.entry


def _get_sdist(requirement: Requirement, *, folder: Path) -> Path:
    """Return the sdist in the cache, downloaded first unless the version that is named is there.

    Raises:
        UserError: pip finds none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = canonicalize_name(requirement.name)
    for version in (each.version for each in requirement.specifier if each.operator == "=="):
        for stem in (name, name.replace("-", "_")):
            if (path := folder / f"{stem}-{version}.tar.gz").is_file():
                return path
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        failure = download_sdist(str(requirement), name=name, folder=Path(fresh))
        found = sorted(Path(fresh).glob("*.tar.gz"))
        if failure or not found:
            raise UserError(
                f"cannot download an sdist of {name}",
                got=failure or "no .tar.gz",
                remedy="look whether the name is right and has a .tar.gz on the index",
            )
        return found[0].replace(folder / found[0].name)


def _find_licence(name: str, members: Mapping[str, bytes]) -> tuple[str, str]:
    """Return the licence file at the top and the licence that its text is.

    Raises:
        UserError: There is none, or one of them is not permissive, or the metadata contradict.
    """
    found = sorted((path for path in members if LICENCE_FILE.fullmatch(path)), key=len)
    if not found:
        raise _refuse(name, "no licence file at the top of its sdist")
    named = {path: recognise_licence(members[path].decode("utf-8", "replace")) for path in found}
    unknown = [path for path, licence in named.items() if licence is None]
    if unknown:
        reason = f"{unknown[0]} is not the text of a permissive licence"
        raise _refuse(name, reason)
    other = find_other_licence(members.get("PKG-INFO", b"").decode("utf-8", "replace"))
    if other:
        raise _refuse(name, f"its metadata say: {other}")
    return found[0], str(named[found[0]])


def _refuse(name: str, reason: str) -> UserError:
    return UserError(f"{name} gives no tasks: {reason}", remedy="take another project")
