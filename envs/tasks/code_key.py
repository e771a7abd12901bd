"""One name for the state of the code that decides a result, by which the cache knows what holds.

A change elsewhere, even in `envs/`, leaves what is kept as it is. The modules are found by their
imports, so none has to be listed.

Not covered: what a module reads or imports by a name that is made while it runs.
"""

import functools
from pathlib import Path

from envs.files import hash_files
from envs.syntax import find_imports, parse_python

ROOT = Path(__file__).resolve().parents[2]
CHILD = "envs.sandbox.child_main"  # started by its path, so no import tells of it


@functools.cache
def code_key(*deciding: str, root: Path = ROOT) -> str:
    """Return the sha256 of modules and of all modules below `root` that they import.

    Args:
        deciding: Dotted names of the modules that begin the imports.
        root: Folder that holds their packages.
    """
    waiting, found = list(deciding), dict[str, Path]()
    while waiting:
        name = waiting.pop()
        path = _find_file(name, root)
        if path is not None and name not in found:
            found[name] = path
            waiting += [
                name.rpartition(".")[0],
                *find_imports(parse_python(path.read_text("utf-8"))),
            ]
    return hash_files({name: found[name] for name in sorted(found)})


def _find_file(name: str, root: Path) -> Path | None:
    module = root / name.replace(".", "/")
    return next(
        (path for path in (module.with_suffix(".py"), module / "__init__.py") if path.is_file()),
        None,
    )
