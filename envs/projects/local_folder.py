"""Any project in a folder of this machine as task material: read, never written to.

    project, files = open_local(Path("~/mine"), python=Path("~/mine/v/bin/python"), cache_dir=cache)

Its suite must pass under pytest in the sandbox, where it runs from a copy of the folder's text
files, with its own pytest configuration and the packages and plugins that the given interpreter
has installed. The interpreter itself is started to ask where those are; nothing of the project runs
outside the sandbox. What is found out is kept in the cache, for a folder, a Python with its
packages and options that are the same.

Not covered: compiled extensions, projects that pytest itself is made of, tests that need a network.
"""

import json
import os
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from envs.files import hash_text, write_whole
from envs.plain_text import representable
from envs.projects.admission import SUITE_S, admit
from envs.projects.baseline import keep_measured
from envs.projects.licences import LICENCE_FILE, recognise_licence
from envs.projects.lock_file import Project, select_tree
from envs.projects.refusal import Command
from envs.projects.source_files import FolderContent, scan_folder
from envs.records import Split
from envs.sandbox.interpreter import Interpreter, ask_interpreter
from envs.tasks.code_key import CHILD, code_key
from envs.tasks.store import Files, hash_tree

# Where `pip install -e` makes the interpreter look: paths in .pth files, and setuptools' finders.
_ASK_PATHS = """
import json, os, sys
finders = [m for n, m in sys.modules.items() if n.startswith("__editable__")]
mapped = [p for m in finders for p in getattr(m, "MAPPING", {}).values()]
print(json.dumps([p for p in sys.path if p] + [os.path.dirname(p) for p in mapped]))
"""


def open_local(
    folder: Path,
    *,
    python: Path | None,
    split: Split = "train",
    exclude: Collection[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    suite_s: float = SUITE_S,
    cache_dir: Path,
    on_read: Callable[[FolderContent], None] = lambda _: None,
    on_run: Callable[[str], None] = lambda _: None,
) -> tuple[Project, Files]:
    """Return a project in a folder and its tree, after its suite has passed five times.

    Args:
        folder: Where it lies.
        python: The interpreter with its dependencies and pytest; None for the one that runs this.
        split: Where its tasks go.
        exclude: Test files and folders (left out of the tree), classes, functions or ids that do
            not count.
        environment: Variables that its tests see.
        suite_s: CPU seconds that its suite may take; the slowest tests are left out beyond.
        cache_dir: Where builds keep what they know.
        on_read: Takes what is in the folder, before anything runs.
        on_run: Takes what a run of the suite is for, before each.

    Raises:
        UserError: It cannot be read, has no tests, is red (with the names of the failing tests) or
            too slow, or the interpreter does not do.
        InfrastructureError: The sandbox failed.
    """
    entry, members = read_local(
        folder,
        python=python,
        split=split,
        environment=environment,
        cache_dir=cache_dir,
        on_read=on_read,
    )
    interpreter = entry.find_interpreter(cache_dir=cache_dir)
    asked = [str(folder.expanduser().absolute()), str(suite_s), *sorted(exclude)]
    made_of = [entry.model_dump_json(exclude={"split"}), *asked]
    version = _name_state(made_of, members, interpreter)
    kept = cache_dir / "mutants" / f"{entry.name}-{version}.project.json"
    try:
        known = Project.model_validate_json(kept.read_bytes())
        return known.model_copy(update={"split": split}), select_tree(known, members)
    except (OSError, ValidationError):
        command = _compose_command(folder, python, environment)
        seconds = None if suite_s == SUITE_S else suite_s
        command = replace(command, exclude=exclude, suite_s=seconds)
        found = admit(
            entry, members, command=command, suite_s=suite_s, cache_dir=cache_dir, on_run=on_run
        )
    files = found.files
    entry = found.entry.model_copy(update={"version": version, "sha256": hash_tree(files)})
    keep_measured(found.measured, entry, files=files, cache_dir=cache_dir)
    write_whole(kept, entry.model_dump_json())
    return entry, files


def read_local(
    folder: Path,
    *,
    python: Path | None,
    split: Split = "train",
    environment: Mapping[str, str] = MappingProxyType({}),
    cache_dir: Path,
    on_read: Callable[[FolderContent], None] = lambda _: None,
) -> tuple[Project, dict[str, bytes]]:
    """Return what is known of a project in a folder before its suite has run, and its files.

    Args:
        folder: And the others: as above.

    Raises:
        UserError: It cannot be read, or the interpreter does not do.
    """
    folder = folder.expanduser().absolute()
    content = scan_folder(folder)
    on_read(content)
    members = content.members
    path, version = name_python(python)  # refused before anything runs
    entry = Project(
        name=representable(folder.name),
        version="local",
        split=split,
        sdist="",
        sha256="",
        licence=_name_licences(members),
        licence_file="",
        licence_sha256="",
        roots=(),
        mutated=(),
        python=path,
        python_version=version,
        environment=tuple(sorted(environment.items())),
        paths=_find_import_paths(folder, path),
    )
    return entry, members


def name_python(python: Path | None) -> tuple[str, str]:
    """Return path and version of a user's interpreter, '' each for none.

    Raises:
        UserError: It does not do.
    """
    found = ask_interpreter(python) if python else None
    return (found.executable, found.versions[0]) if found else ("", "")


def _name_state(
    made_of: Sequence[str], members: Mapping[str, bytes], interpreter: Interpreter
) -> str:
    """Return a name for all that decides what is found out about a project."""
    sites = [Path(site) for site in interpreter.site if Path(site).is_dir()]
    packages = sorted(str(path) for site in sites for path in site.iterdir())
    parts = [*made_of, *interpreter.versions, *packages, code_key(__name__, CHILD)]
    for path in sorted(members):
        parts += [path, hash_text(members[path])]
    return hash_text(os.fsencode(json.dumps(parts)))[:12]


def _compose_command(folder: Path, python: Path | None, environment: Mapping[str, str]) -> Command:
    words = ["tightrope", "tasks", "build", "--source", "path", "--path", str(folder)]
    words += ["--python", str(python)] if python else []
    if environment:
        words += ["--env", *(f"{name}={value}" for name, value in environment.items())]
    return Command(words)


def _find_import_paths(folder: Path, python: str) -> tuple[str, ...]:
    """Return the folders of a project from which an interpreter imports it, and `src`."""
    found = ["src"] if (folder / "src").is_dir() else []
    if python:
        line = [python, "-I", "-c", _ASK_PATHS]
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd="/")
            told = json.loads(done.stdout.strip().rpartition("\n")[2])
        except (OSError, subprocess.TimeoutExpired, ValueError):
            told = []
        here = folder.resolve()
        inside = [Path(path).resolve() for path in told if Path(path).is_absolute()]
        found += [str(path.relative_to(here)) for path in inside if path.is_relative_to(here)]
    # The root is one anyway, and an environment in the project belongs to no tree.
    return tuple(
        path for path in dict.fromkeys(found) if path != "." and Path(path).name != "site-packages"
    )


def _name_licences(members: dict[str, bytes]) -> str:
    texts = [data for path, data in members.items() if LICENCE_FILE.fullmatch(path)]
    named = {recognise_licence(text.decode("utf-8", "replace")) or "unknown" for text in texts}
    return " AND ".join(sorted(named)) or "unknown"
