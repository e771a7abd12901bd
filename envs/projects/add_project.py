"""Adds one project of PyPI to the lock file, or says why it is of no use for tasks.

    entry = add("semver==3.1.1", split="train", lock=path, cache_dir=folder)

The sdist is looked at without unpacking it: the text of its licence, its layout, whether it needs a
compiler. Then its suite runs (`envs/projects/admission.py`).

Not covered: sdists that are not tar.gz, suites that need more than pytest and pure-Python wheels.
"""

import json
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from envs.errors import UserError
from envs.files import hash_file, hash_text, write_whole
from envs.plain_text import representable
from envs.projects.admission import Exclusions, admit, refusal
from envs.projects.layout import MAX_TREE_BYTES, find_layout
from envs.projects.licences import LICENCE_FILE, licence_of, other_licence
from envs.projects.lock_file import Project, load_lock, read_sdist
from envs.records import Split
from envs.sandbox.wheels import pin_wheels, run_pip

_OTHER_REMEDY = "take another project"


def add(
    wanted: str,
    *,
    split: Split,
    lock: Path,
    cache_dir: Path,
    exclusions: Exclusions = Exclusions(),  # noqa: B008 (frozen)
    requires: Sequence[str] = (),
) -> Project:
    """Add a project to the lock file and return its entry.

    Args:
        wanted: Its name on PyPI, perhaps with `==VERSION`.
        split: Where its tasks go.
        lock: The lock file, rewritten at the end.
        cache_dir: Where sdists and wheels are kept.
        exclusions: Tests that shall not count.
        requires: Packages that its code or its tests need beside pytest.

    Raises:
        UserError: The project is of no use, for the reason given.
        InfrastructureError: The sandbox failed.
    """
    name, _, version = wanted.partition("==")
    name = re.sub(r"[-_.]+", "-", name.strip()).lower()
    known = load_lock(lock)
    if any(entry.name == name for entry in known):
        raise UserError(
            "the project is in the lock file", got=name, remedy=f"delete it from {lock}"
        )
    sdist = _sdist(name, version.strip(), cache_dir=cache_dir)
    members = _members(sdist)
    licence_file, licence = _licence(name, members)
    entry = Project(
        name=name,
        version=sdist.name.removesuffix(".tar.gz").rpartition("-")[2],
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
    entry, _ = admit(
        entry,
        layout=find_layout(members),
        read_tree=lambda known: read_sdist(known, sdist=sdist),
        exclusions=exclusions,
        cache_dir=cache_dir,
    )
    _write_lock(lock, [*load_lock(lock), entry])
    return entry


def _sdist(name: str, version: str, *, cache_dir: Path) -> Path:
    """Return the sdist in the cache, downloaded first unless this version is there.

    Raises:
        UserError: pip finds none.
    """
    folder = cache_dir / "sdists"
    folder.mkdir(parents=True, exist_ok=True)
    for stem in (name, name.replace("-", "_")):
        path = folder / f"{stem}-{version}.tar.gz"
        if version and path.is_file():
            return path
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        wanted = f"{name}=={version}" if version else name
        failure = run_pip(["download", "--no-deps", "--no-binary", name, "--dest", fresh, wanted])
        found = sorted(Path(fresh).glob("*.tar.gz"))
        if failure or not found:
            raise UserError(
                f"cannot download an sdist of {name}",
                got=failure or "no .tar.gz",
                remedy="look whether the name is right and has a .tar.gz on the index",
            )
        return found[0].replace(folder / found[0].name)


def _members(sdist: Path) -> dict[str, bytes]:
    """Return the files of an sdist by their path in the project."""
    with tarfile.open(sdist) as archive:
        return {
            member.name.partition("/")[2]: file.read()
            for member in archive.getmembers()
            if member.size <= MAX_TREE_BYTES and member.name == representable(member.name)
            if (file := archive.extractfile(member)) is not None
        }


def _licence(name: str, members: Mapping[str, bytes]) -> tuple[str, str]:
    """Return the licence file at the top and the licence that its text is.

    Raises:
        UserError: There is none, or one of them is not permissive, or the metadata contradict.
    """
    found = sorted((path for path in members if LICENCE_FILE.fullmatch(path)), key=len)
    if not found:
        raise refusal(name, "no licence file at the top of its sdist", remedy=_OTHER_REMEDY)
    named = {path: licence_of(members[path].decode("utf-8", "replace")) for path in found}
    unknown = [path for path, licence in named.items() if licence is None]
    if unknown:
        reason = f"{unknown[0]} is not the text of a permissive licence"
        raise refusal(name, reason, remedy=_OTHER_REMEDY)
    other = other_licence(members.get("PKG-INFO", b"").decode("utf-8", "replace"))
    if other:
        raise refusal(name, f"its metadata say: {other}", remedy=_OTHER_REMEDY)
    return found[0], str(named[found[0]])


def _write_lock(lock: Path, entries: Sequence[Project]) -> None:
    """Write the lock file; defaults are left out."""
    text = {
        entry.name: entry.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        for entry in entries
    }
    write_whole(lock, json.dumps(text, indent=2) + "\n")
