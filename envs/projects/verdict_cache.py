"""Remembers what became of each planted bug, so that a build that was stopped goes on.

One line of JSON for each bug, appended to a file of the cache as soon as it is known, in one write:
several builds may share the file, and a kill costs the line that was under way. A line holds for
one tree, one list of stable tests, one Python, one pytest and one state of the code that decides:
what an older grader has checked is checked again.
"""

import json
import platform
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from envs.files import hash_text, read_lines
from envs.mutation.bug import Bug
from envs.projects.repair_task import GENERATOR
from envs.tasks.code_key import CHILD, code_key
from envs.tasks.store import Files, hash_tree
from envs.tasks.visible_tests import TestFunction

DECIDING = "envs.projects.check_mutant"  # the module whose imports are all that decides


@dataclass(frozen=True)
class Verdict:
    """What became of a bug.

    Attributes:
        failing: Ids of the tests that it fails, as far as they were run.
        reject: Why it is no task, or None.
        shown: The test functions that its task shows, one for each mutation.
        statement: What the agent reads first.
        case: Of a function that is shown with one of its cases, its number and its id then.
        calls: The recorded calls that grade its task.
        is_lasting: Another try would give the same; only such a verdict is kept.
    """

    failing: frozenset[str]
    reject: str | None
    shown: tuple[TestFunction, ...] = ()
    statement: str = ""
    case: tuple[int, str] | None = None
    calls: tuple[int, ...] = ()
    is_lasting: bool = True


class Verdicts:
    """Verdicts on the bugs of one project; safe from any thread.

    Args:
        path: Where they are kept; made when the first one is known.
        files: The project's unchanged tree.
        stable_tests: Ids of its tests.
    """

    def __init__(self, path: Path, *, files: Files, stable_tests: Sequence[str]) -> None:
        self._path, self._lock = path, threading.Lock()
        self._files = files
        made_by = [
            GENERATOR,
            platform.python_version(),
            version("pytest"),
            code_key(DECIDING, CHILD),
        ]
        self._base = json.dumps([*made_by, hash_tree(files), *stable_tests])
        self._known: dict[str, Verdict] = {}
        for line in read_lines(path) if path.is_file() else []:
            try:
                key, failing, reject, shown, statement, case, calls = json.loads(line)
                case = case and (int(case[0]), str(case[1]))
                functions = tuple((file, name) for file, name in shown)
                known = (frozenset(failing), reject, functions, statement, case, tuple(calls))
                self._known[key] = Verdict(*known)
            except (ValueError, TypeError):
                continue  # the build was killed while it wrote this line

    def get(self, bug: Bug) -> Verdict | None:
        """Return what is known of a bug, or None."""
        return self._known.get(self._key(bug))

    def add(self, bug: Bug, verdict: Verdict) -> None:
        """Take up a verdict and write it down, if it is a lasting one."""
        if not verdict.is_lasting:
            return
        key = self._key(bug)
        failing = sorted(verdict.failing)
        told = [verdict.reject, verdict.shown, verdict.statement, verdict.case, verdict.calls]
        line = json.dumps([key, failing, *told])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.open("ab", buffering=0) as file:
            file.write(f"\n{line}\n".encode())  # a line that a kill cut short ends here
            self._known[key] = verdict

    def _key(self, bug: Bug) -> str:
        return hash_text(self._base + json.dumps(bug.apply(self._files)))
