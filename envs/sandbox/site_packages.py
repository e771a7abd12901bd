"""Where installed packages are, so that a sandbox shows pytest and hides all the others.

Among the others may be the very project that is to be mended, without its bug.
"""

import contextlib
import re
import sys
from importlib import metadata
from pathlib import Path


def package_folders() -> list[str]:
    """Return the folders in which interpreters of this machine look for installed packages."""
    prefixes = dict.fromkeys([sys.prefix, sys.base_prefix, "/usr", "/usr/local"])
    found = [
        str(path)
        for prefix in prefixes
        for name in ("site-packages", "dist-packages")
        for path in Path(prefix).glob(f"lib*/python3*/{name}")
        if not any(folder.is_symlink() for folder in (path, path.parent, path.parent.parent))
    ]
    return list(dict.fromkeys(found))


def files_of(distribution: str) -> list[str]:
    """Return the top-level files and folders of a package and of all that it needs."""
    pending, seen, found = [distribution], set[str](), dict[str, None]()
    while pending:
        name = pending.pop()
        seen.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another system than this
            package = metadata.distribution(name)
            tops = {file.parts[0] for file in package.files or [] if ".." not in file.parts}
            found |= dict.fromkeys(str(package.locate_file(top)) for top in sorted(tops))
            needs = [need for need in package.requires or [] if "extra ==" not in need]
            names = {re.split(r"[^A-Za-z0-9._-]", need)[0] for need in needs}
            pending += sorted(names - seen)
    return [name for name in found if Path(name).exists()]
