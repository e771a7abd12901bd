"""Remembers what a suite said of each planted bug, so that a build that was stopped goes on.

One line of JSON for each bug, appended to a file of the cache as soon as it is known, in one write:
several builds may share the file, and a kill costs the line that was under way. A line holds for
one tree, one list of green tests, one Python and one pytest.
"""

import hashlib
import json
import platform
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from envs.tasks.mutants import GENERATOR, Candidate, Probed
from envs.tasks.store import Files, content_sha


class Verdicts:
    """Verdicts on the bugs of one project; safe from any thread.

    Args:
        path: Where they are kept; made when the first one is known.
        files: The project's unchanged tree.
        green: Ids of its tests.
    """

    def __init__(self, path: Path, *, files: Files, green: Sequence[str]) -> None:
        self._path, self._lock = path, threading.Lock()
        made_by = [GENERATOR, platform.python_version(), version("pytest"), content_sha(files)]
        self._base = json.dumps([*made_by, *green])
        self._known: dict[str, tuple[frozenset[str], str | None]] = {}
        for line in path.read_bytes().splitlines() if path.is_file() else []:
            try:
                key, failing, reject = json.loads(line)
                self._known[key] = frozenset(failing), reject
            except (ValueError, TypeError):
                continue  # the build was killed while it wrote this line

    def of(self, candidate: Candidate) -> Probed | None:
        """Return what is known of a bug, or None."""
        known = self._known.get(self._key(candidate))
        return None if known is None else Probed(candidate, *known)

    def add(self, probed: Probed) -> None:
        """Take up a verdict and write it down."""
        key = self._key(probed.candidate)
        line = json.dumps([key, sorted(probed.failing), probed.reject])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.open("ab", buffering=0) as file:
            file.write(f"\n{line}\n".encode())  # a line that a kill cut short ends here
            self._known[key] = probed.failing, probed.reject

    def _key(self, candidate: Candidate) -> str:
        text = f"{self._base}{candidate.mutation.path}\n{candidate.text}"
        return hashlib.sha256(text.encode()).hexdigest()
