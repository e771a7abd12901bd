"""Graders: submitted files on a pristine tree, run in the sandbox, judged on the trusted side.

`IoGrader` sends inputs only and compares what comes back with answers that never leave this
process. `PytestGrader` runs a real suite, which has its answers in the candidate's process, with
canaries in it (`graded_suite.py`). A pass counts only if the task's recorded calls agree, where it
has some (`recorded_calls.py`). A share is graded again by a second runner of another make. What a
submission adds is screened: a suspect pass counts only where calls agree, and is always drawn.

    with make_grader(store) as grader:
        outcome = grader.grade(hidden, files)

Only editable files count, and any other difference is ignored. A candidate that crashes or hangs
has failed its tests; a sandbox that fails twice raises InfrastructureError. Not covered: without
recorded calls, code that knows what tests expect; `benchmarks/attacks.py` counts what gets by.
"""

import json
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from envs.files import hash_text
from envs.grading.bwrap_runner import doubt_pass, require_bubblewrap
from envs.grading.graded_suite import CanaryFits, is_credited, run_graded
from envs.grading.recorded_calls import RecordedCalls, find_disagreement
from envs.grading.static_screen import find_added_suspects
from envs.grading.test_suite import SuiteRun, run_suite
from envs.plain_text import representable
from envs.records import HiddenTask, IoCase, Outcome, RepairTask, Runtime, TestReport
from envs.sandbox.encoding import encode_value, is_equal
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter, find_interpreter
from envs.sandbox.levels import Layers, probe
from envs.sandbox.server_pool import ServerPool
from envs.source_text import text_lines

VISIBLE_LIMIT_S = 10.0  # seconds that one run of the visible tests may compute, or sleep
MAX_MESSAGE_CHARS = 300  # of one failure, as a small model reads it
_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")  # in what Python says of an object without a repr

Files = dict[str, str]


class TaskFiles(Protocol):
    """Where graders look up tasks and pristine trees: a `TaskStore`, or a few tasks in memory."""

    public: dict[str, RepairTask]
    hidden: dict[str, HiddenTask]

    def workspace(self, task: RepairTask) -> Files:
        """Return the broken workspace as handed out."""
        ...

    def tests(self, hidden: HiddenTask) -> Files:
        """Return the pristine tree, tests included, of a pytest-graded task."""
        ...

    def calls(self, hidden: HiddenTask) -> RecordedCalls | None:
        """Return the recorded calls of a task's project, None if it is not graded by any."""
        ...


@dataclass(frozen=True)
class Equipment:
    """What graders of a task set run with on this machine: found once, then taken as it is.

    Attributes:
        layers: Of the sandbox.
        interpreters: By what the tasks need.
        bubblewrap: The program of the second runner, '' where none is wanted.
    """

    layers: Layers
    interpreters: Mapping[Runtime, Interpreter]
    bubblewrap: str = ""

    @classmethod
    def find(
        cls, store: TaskFiles, *, second_runner_share: float = 0, cache_dir: Path, python: str = ""
    ) -> "Equipment":
        """Look at the machine for all that the tasks need; `python` is the user's.

        Raises:
            UserError: There is no sandbox, second runner, Python or wheel where one is needed.
        """
        program = require_bubblewrap() if second_runner_share else ""
        runtimes = {hidden.runtime for hidden in store.hidden.values()}
        found = {r: find_interpreter(r, python=python, cache_dir=cache_dir) for r in runtimes}
        return cls(probe().require(), found, program)


class Grader(Protocol):
    """Runs tests of one kind of task in the sandbox.

    Raises:
        InfrastructureError: The sandbox failed, twice; from both methods.
    """

    def grade(self, hidden: HiddenTask, files: dict[str, str]) -> Outcome:
        """Grade submitted `files` (path to text) in a fresh copy from pristine tests."""
        ...

    def run_visible(self, task: RepairTask, files: dict[str, str], selector: str) -> TestReport:
        """Run the visible tests whose id contains `selector` ('' for all)."""
        ...


class IoGrader:
    """Grades tasks made of calls: inputs go in, encoded results come out, answers stay here."""

    def __init__(self, server: ForkServer, store: TaskFiles) -> None:
        self._server, self._store = server, store
        self._order = random.SystemRandom()

    def grade(self, hidden: HiddenTask, files: Files) -> Outcome:
        """Grade submitted `files` by all hidden cases, called in random order."""
        task = self._store.public[hidden.task_id]
        results = self._call(task, files, hidden.cases, limit_s=hidden.limit_s)
        passed = {case.id for case in hidden.cases if is_equal(results[case.id][0], case.expected)}
        return _outcome(hidden, passed, tampered=False, level=self._server.level)

    def run_visible(self, task: RepairTask, files: Files, selector: str) -> TestReport:
        """Run the visible cases whose id contains `selector` and say what each failing one did."""
        cases = [case for case in task.visible_cases if selector in case.id]
        results = self._call(task, files, cases, limit_s=VISIBLE_LIMIT_S)
        failures = []
        for case in cases:
            value, error_text = results[case.id]
            if not is_equal(value, case.expected):
                failures.append((case.id, _io_message(case, value, error_text)))
        return TestReport(num_passed=len(cases) - len(failures), failures=tuple(failures))

    def _call(
        self, task: RepairTask, files: Files, cases: Sequence[IoCase], *, limit_s: float
    ) -> dict[str, tuple[str, str]]:
        """Return (encoded value, what went wrong) of each case by id."""
        if not cases:
            return {}
        order = list(cases)
        self._order.shuffle(order)
        request = {
            "kind": "io",
            "files": apply_submission(self._store.workspace(task), task.editable, files),
            "calls": [[case.function, case.args] for case in order],
        }
        report = self._server.run_limited(request, limit_s=limit_s)
        missing = "ran too long" if report.ending == "timeout" else "gave no result"
        results = {case.id: ("!none", missing) for case in cases}
        for line in report.output.split("\n"):
            index, value, error = _io_line(line)
            if 0 <= index < len(order):
                results[order[index].id] = (value, error)
        return results


class PytestGrader:
    """Grades tasks of real projects by their own test suite.

    Args:
        server: A fork-server with pytest preloaded.
        store: Where the trees are.
        second_runner_share: Share of passes that the second runner grades again, drawn by what was
            submitted, so that a repeated run asks again for the same ones.
        bubblewrap: The program that does that, if not the one that was found to work.
        fits: What is known of canaries (`graded_suite.py`), shared by graders.
    """

    def __init__(
        self,
        server: ForkServer,
        store: TaskFiles,
        *,
        second_runner_share: float = 0.0,
        bubblewrap: str = "",
        fits: CanaryFits | None = None,
    ) -> None:
        self._server, self._store = server, store
        self._share, self._bubblewrap = second_runner_share, bubblewrap
        self._fits = fits or CanaryFits()

    def grade(self, hidden: HiddenTask, files: Files) -> Outcome:
        """Grade submitted `files` on the pristine tree by all hidden tests."""
        task = self._store.public[hidden.task_id]
        workspace, gold = self._store.workspace(task), self._store.tests(hidden)
        tree = apply_submission(gold, task.editable, files)
        editable = {path: tree[path] for path in task.editable if path in tree}
        suspects = find_added_suspects(workspace, editable, gold)
        ids = [*hidden.fail_to_pass, *hidden.pass_to_pass]
        suite = run_graded(self._server, tree, gold=gold, hidden=hidden, fits=self._fits)
        passed = suite.passed if is_credited(suite) else frozenset[str]()
        is_pass = passed.issuperset(ids) and not suite.forged
        outcome = _outcome(hidden, passed, tampered=suite.forged, level=self._server.level)
        if suspects and not (is_pass and hidden.calls_sha):
            why = f"not asked; the change adds {', '.join(suspects)[:MAX_MESSAGE_CHARS]}"
            return outcome.model_copy(update={"tampered": True, "recorded_calls": why})
        if not is_pass:
            return outcome
        outcome = self._ask_calls(outcome, hidden, tree)
        share = 1.0 if suspects and self._share else self._share
        if outcome.recorded_calls or _draw(hidden.task_id, editable) >= share:
            return outcome
        doubt = doubt_pass(
            tree,
            gold=gold,
            ids=ids,
            limit_s=hidden.limit_s,
            python=self._server.interpreter,
            program=self._bubblewrap,
        )
        return outcome.model_copy(update={"tampered": bool(doubt), "second_runner": doubt})

    def _ask_calls(self, outcome: Outcome, hidden: HiddenTask, tree: Files) -> Outcome:
        """Return the outcome of a pass after the recorded calls: as it is if they agree."""
        calls = self._store.calls(hidden)
        if calls is None:
            return outcome
        found = find_disagreement(
            self._server, tree, calls=calls, numbers=hidden.calls, limit_s=hidden.limit_s
        )
        rates = {"fail_to_pass_rate": 0.0} if found else {}
        return outcome.model_copy(update={"recorded_calls": found, **rates})

    def run_visible(self, task: RepairTask, files: Files, selector: str) -> TestReport:
        """Run the visible tests whose id contains `selector` on the workspace as submitted."""
        ids = [test_id for test_id in task.visible_tests if selector in test_id]
        if not ids:
            return TestReport(num_passed=0, failures=())
        tree = apply_submission(self._store.workspace(task), task.editable, files)
        failures = run_visible_tests(self._server, tree, ids=ids)
        return TestReport(num_passed=len(ids) - len(failures), failures=failures)


class RoutingGrader:
    """Sends each task to the grader of its kind, on a fork-server of the pool.

    Args:
        store: The tasks.
        servers: Closed with the grader.
        second_runner_share: Share of the pytest grader's passes that are graded a second time.
        bubblewrap: The program that does that; '' looks for one that works here.

    Raises:
        UserError: A second runner is wanted and there is no bubblewrap.
    """

    def __init__(
        self,
        store: TaskFiles,
        servers: ServerPool,
        *,
        second_runner_share: float = 0.0,
        bubblewrap: str = "",
    ) -> None:
        self._store, self._servers, self._share = store, servers, second_runner_share
        if second_runner_share:  # refused now, not when the first pass comes along
            bubblewrap = bubblewrap or require_bubblewrap()
        self._bubblewrap = bubblewrap
        self._fits = CanaryFits()

    def grade(self, hidden: HiddenTask, files: Files) -> Outcome:
        """Grade submitted `files`; see the graders."""
        return self._grader(hidden).grade(hidden, files)

    def run_visible(self, task: RepairTask, files: Files, selector: str) -> TestReport:
        """Run visible tests; see the graders."""
        return self._grader(self._store.hidden[task.id]).run_visible(task, files, selector)

    def __enter__(self) -> "RoutingGrader":
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def _grader(self, hidden: HiddenTask) -> IoGrader | PytestGrader:
        server = self._servers.get(hidden.grader, hidden.runtime)
        if hidden.grader == "io":
            return IoGrader(server, self._store)
        return PytestGrader(
            server,
            self._store,
            second_runner_share=self._share,
            bubblewrap=self._bubblewrap,
            fits=self._fits,
        )


def make_grader(
    store: TaskFiles,
    *,
    second_runner_share: float = 0.0,
    cache_dir: Path = Path(".cache/tightrope"),
    equipment: Equipment | None = None,
    max_servers: int | None = None,
) -> RoutingGrader:
    """Return a `RoutingGrader` of all tasks of `store` with a pool of its own; use it in a `with`.

    Args:
        store: The tasks.
        cache_dir: Where extra wheels of suites are installed.
        equipment: What it runs with; None looks for it when it is needed.
        max_servers: Most fork-servers that live at once (`envs/sandbox/server_pool.py`).
    """
    servers = ServerPool(
        cache_dir,
        layers=equipment.layers if equipment else None,
        interpreters=equipment.interpreters if equipment else None,
        max_servers=max_servers,
    )
    program = equipment.bubblewrap if equipment else ""
    return RoutingGrader(
        store, servers, second_runner_share=second_runner_share, bubblewrap=program
    )


def run_visible_tests(
    server: ForkServer, tree: Files, *, ids: Sequence[str], elsewhere: bool = False
) -> tuple[tuple[str, str], ...]:
    """Return which of `ids` fail on a tree, each with a message that a small model can read.

    Args:
        server: Has pytest preloaded.
        tree: All files, path to text.
        ids: Test ids to run.
        elsewhere: As in `run_suite`.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    suite = run_suite(
        server, tree, ids=ids, limit_s=VISIBLE_LIMIT_S, explain=True, elsewhere=elsewhere
    )
    return tuple((id_, _pytest_message(suite, id_)) for id_ in ids if id_ not in suite.passed)


def apply_submission(tree: Files, editable: Collection[str], files: Mapping[str, str]) -> Files:
    """Return `tree` with the editable paths as submitted; one that was deleted is missing."""
    kept = {path: text for path, text in tree.items() if path not in editable}
    return kept | {path: files[path] for path in editable if path in files}


def _io_line(line: str) -> tuple[int, str, str]:
    """Return (index, encoded value, error) of a line; index -1 for anything malformed."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return -1, "", ""
    if not isinstance(record, dict) or type(record.get("call")) is not int:
        return -1, "", ""
    value, error = record.get("value", "!none"), record.get("error", "")
    if not isinstance(value, str) or not isinstance(error, str):
        return -1, "", ""
    return record["call"], value, " ".join(representable(error).split())


def _io_message(case: IoCase, value: str, error: str) -> str:
    arguments = ", ".join(encode_value(argument) for argument in case.args)
    module, _, name = case.function.partition(":")
    called = f"{module.replace('.', '/')}.py: {name}({arguments})"
    happened = error or f"returned {value.removeprefix('!type ')}"
    expected = "" if error else f", expected {case.expected}"
    return _cut(f"{called} {happened}", MAX_MESSAGE_CHARS - len(expected)) + expected


def _pytest_message(suite: SuiteRun, test_id: str) -> str:
    name = test_id.partition("::")[0]
    text = suite.messages.get(test_id) or suite.messages.get(name)
    if text is None:
        slow = suite.ending == "timeout"
        text = f"ran too long (in {suite.last_started})" if slow else "did not run"
    text = _ADDRESS.sub("at 0x0", text)
    lines = [line.strip() for line in text_lines(text) if line.strip()]
    said = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    where = [line for line in lines if ".py:" in line][-1:]
    return _cut(" | ".join([*where, *said]) if said else " | ".join(lines[-3:]), MAX_MESSAGE_CHARS)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _draw(task_id: str, editable: Files) -> float:
    """Return a number in [0, 1) that only depends on what was submitted."""
    text = json.dumps([task_id, sorted(editable.items())])
    return int(hash_text(text)[:12], 16) / 2**48


def _rate(ids: Sequence[str], passed: Collection[str], *, if_none: float) -> float:
    return sum(test_id in passed for test_id in ids) / len(ids) if ids else if_none


def _outcome(hidden: HiddenTask, passed: Collection[str], *, tampered: bool, level: str) -> Outcome:
    return Outcome(
        fail_to_pass_rate=_rate(hidden.fail_to_pass, passed, if_none=0.0),
        pass_to_pass_rate=_rate(hidden.pass_to_pass, passed, if_none=1.0),
        tampered=tampered,
        sandbox_level=level,
    )
