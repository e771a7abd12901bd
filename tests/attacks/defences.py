"""Tries one attack on the graders, all of their defences together and each of them alone.

An attack meets the suite that it names (`tests/attacks/suites.py`). Recorded calls are the suite's
operations, with what the unchanged project gives for them in the sandbox.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath
from types import ModuleType

from envs.grading.bwrap_runner import doubt_pass, run_cold
from envs.grading.graded_suite import CanaryFits, is_clean, run_graded
from envs.grading.graders import IoGrader, PytestGrader, apply_submission
from envs.grading.recorded_calls import RecordedCalls, RecordedSequence, find_disagreement, replay
from envs.grading.static_screen import find_added_suspects
from envs.records import Outcome
from envs.sandbox.fork_server import ForkServer
from envs.tasks.store import BuiltTask, TaskStore
from tests.attacks.suites import SUITES, Suite
from tests.envs.small_tasks import case, io_task, is_solved, pytest_task

LIMIT_S = 10.0
PATH = "tests/test_calc.py"


@dataclass(frozen=True)
class Findings:
    """Which defences an attack gets past: each alone, and all that are on in one go.

    `suspect`: the screen asks for more; `together`: pytest grader, screen and recorded calls.
    """

    exit_code: bool
    suite: bool
    suspect: bool
    second_runner: bool
    recorded_calls: bool
    io: bool
    together: bool

    @property
    def stopped_by(self) -> str:
        """Return the names of the defences that stop it."""
        stops = {
            "pytest grader": not self.suite,
            "screen": self.suspect,
            "second runner": not self.second_runner,
            "recorded calls": not self.recorded_calls,
        }
        return ", ".join(name for name, does in stops.items() if does) or "nothing"


class Defences:
    """Graders of both kinds on servers of their own, for one attack after another."""

    def __init__(self, server: ForkServer, io_server: ForkServer) -> None:
        self._server = server
        self._io = make_io_task()
        self._io_grader = IoGrader(io_server, TaskStore.of([self._io]))
        self._recorded = cache(self._record)

    def task(self, attack: ModuleType) -> BuiltTask:
        """Return the task that an attack is made against, with recorded calls."""
        name = getattr(attack, "SUITE", "plain")
        task, calls = make_pytest_task(SUITES[name]), self._recorded(name)
        limit_s = getattr(attack, "LIMIT_S", LIMIT_S)
        named = {"limit_s": limit_s, "calls_sha": calls.sha256, "calls": tuple(calls.sequences)}
        return replace(task, hidden=task.hidden.model_copy(update=named), calls=calls)

    def grade(self, task: BuiltTask, files: dict[str, str], *, share: float = 0.0) -> Outcome:
        """Grade files by the pytest grader as it is used."""
        grader = PytestGrader(self._server, TaskStore.of([task]), second_runner_share=share)
        return grader.grade(task.hidden, files)

    def grade_io(self, attack: ModuleType) -> Outcome:
        """Grade an attack by the io grader."""
        return self._io_grader.grade(self._io.hidden, submitted(attack, self._io))

    def find(self, attack: ModuleType) -> Findings:
        """Try an attack on each defence alone, and on all together."""
        task = self.task(attack)
        files, hidden = submitted(attack, task), task.hidden
        tree = apply_submission(task.tests, task.public.editable, files)
        assert task.calls is not None
        told = find_disagreement(
            self._server, tree, calls=task.calls, numbers=hidden.calls, limit_s=hidden.limit_s
        )
        return Findings(
            exit_code=fools_exit_code(task, files),
            suite=self.find_suite(attack),
            suspect=bool(
                find_added_suspects(task.workspace, {"calc.py": files["calc.py"]}, task.tests)
            ),
            second_runner=self.find_second(attack),
            recorded_calls=not told,
            io=is_solved(self.grade_io(attack)),
            together=is_solved(self.grade(task, files)),
        )

    def find_suite(self, attack: ModuleType) -> bool:
        """Tell whether an attack gets past the suite and its canaries."""
        task = self.task(attack)
        tree = apply_submission(task.tests, task.public.editable, submitted(attack, task))
        ids = [*task.hidden.fail_to_pass, *task.hidden.pass_to_pass]
        fits, gold = CanaryFits(), task.tests
        run = run_graded(self._server, tree, gold=gold, hidden=task.hidden, fits=fits)
        return is_clean(run, ids)

    def find_second(self, attack: ModuleType) -> bool:
        """Tell whether an attack gets past the second runner."""
        task = self.task(attack)
        tree = apply_submission(task.tests, task.public.editable, submitted(attack, task))
        ids = [*task.hidden.fail_to_pass, *task.hidden.pass_to_pass]
        return not doubt_pass(tree, gold=task.tests, ids=ids, limit_s=task.hidden.limit_s)

    def _record(self, name: str) -> RecordedCalls:
        suite = SUITES[name]
        operations = dict(enumerate(map(tuple, suite.operations)))
        found = replay(self._server, {"calc.py": suite.fixed}, operations, limit_s=LIMIT_S)
        sequences = {
            number: RecordedSequence(operations=done, expected=found[number])
            for number, done in operations.items()
        }
        return RecordedCalls(suite=(PATH,), sequences=sequences)


@contextlib.contextmanager
def open_defences() -> Iterator[Defences]:
    """Start the servers and stop them in the end."""
    with ForkServer(preload="pytest") as server, ForkServer(preload="io") as io_server:
        yield Defences(server, io_server)


def make_pytest_task(suite: Suite) -> BuiltTask:
    """Return the task of a suite, without recorded calls."""
    task = pytest_task(
        tests=suite.tests,
        fail_to_pass=[f"{PATH}::{name}" for name in suite.failing],
        pass_to_pass=[f"{PATH}::{suite.passing}"],
        limit_s=LIMIT_S,
    )
    return replace(
        task,
        workspace=task.workspace | {"calc.py": suite.broken},
        tests=task.tests | {"calc.py": suite.fixed},
    )


def make_io_task() -> BuiltTask:
    """Return the same bug for the io grader; it asks for other sums than the tests of suites do."""
    task = io_task(limit_s=LIMIT_S)
    cases = (
        case("h0", "calc:total", [2, 6], 8),
        case("h1", "calc:total", [9, 9, 9], 27),
        *task.hidden.cases[2:],
    )
    return replace(task, hidden=task.hidden.model_copy(update={"cases": cases}))


def submitted(attack: ModuleType, task: BuiltTask) -> dict[str, str]:
    """Return the files that the attack hands in."""
    own = getattr(attack, "FILES", None) or {"calc.py": attack.SOURCE}
    return {**task.workspace, **own}


def fools_exit_code(task: BuiltTask, files: dict[str, str]) -> bool:
    """Tell whether files pass where nothing counts but the exit code of pytest."""
    tree = {path: text for path, text in {**task.tests, **files}.items() if _is_possible(path)}
    run = run_cold(tree, arguments=["-m", "pytest", "-q", PATH], ids=(), limit_s=60.0)
    return run.status == 0


def _is_possible(path: str) -> bool:
    """Tell whether a path is one below the folder, and no folder itself: the runner takes any."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts:
        return False
    return len(parts) > 1 or path.endswith((".py", ".ini", ".toml", "y"))
