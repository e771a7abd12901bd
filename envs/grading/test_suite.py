"""Runs a project's own tests in the sandbox and reads what the in-process reporter wrote.

A test passed when set-up, call and teardown were each reported as passed, once and in this order.
The reporter shares its process with the candidate. So each line that it writes needs a ticket,
which is not in that process before (`envs/sandbox/child_reporter.py`); it speaks of tests by
numbers that are drawn anew for each run; and canaries that must fail are mixed in (`canaries.py`):
code that fakes passes without knowing which tests these are fakes them too.
Tests: tests/envs/grading/test_graders.py.
"""

import json
import random
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from envs.grading.canaries import NO_CANARIES, Canaries
from envs.grading.pytest_config import PytestConfig, list_run_options, read_pytest_config
from envs.plain_text import representable
from envs.sandbox.child_reporter import NO_NAME, PHASES
from envs.sandbox.fork_server import ForkServer, RunReport
from envs.sandbox.interpreter import Interpreter

_GREEN = [(phase, "passed") for phase in PHASES]
_BYTES_PER_TEST = 1_500  # of report lines, four for each test
_LEAST_BYTES = 4 * 2**20
_MOST_BYTES = 96 * 2**20  # of a suite whose size is not known, some 100,000 tests


@dataclass(frozen=True)
class SuiteRun:
    """What a run of test files reported.

    Attributes:
        passed: Ids whose set-up, call and teardown all passed, and nothing else.
        messages: For every other reported id (or file that could not be collected) what it said.
        failed: Those of them that failed.
        skipped: The others: skipped by themselves or by `skip`, or expected to fail.
        num_canaries_failed: Canary tests that failed, as each must, or that prove nothing, since
            the tests that they are like did not pass.
        complete: The run reached its end and then ended by itself.
        forged: Something else than the reporting plugin wrote to the pipe, or a canary passed. Of
            the first such line and what follows it nothing is read.
        ending: How the process ended: 'exited', 'timeout' or 'overflow'.
        last_started: The id that ran when the process ended.
        cpu_s: CPU seconds that it took.
        seconds: What each test took, as it says itself, if that was asked for.
        slow: Of those that were ended for taking too long, or never begun, which of the two.
        lines: What each test executed as `envs/sandbox/child_coverage.py` writes it, if that was
            asked for.
        stalled: It was ended because it waited for so long.
        calls: Operations that were recorded (`envs/sandbox/child_recorder.py`), by test.
    """

    passed: frozenset[str]
    messages: dict[str, str]
    failed: frozenset[str]
    skipped: frozenset[str]
    num_canaries_failed: int
    complete: bool
    forged: bool
    ending: str
    last_started: str
    cpu_s: float
    seconds: dict[str, float] = field(default_factory=dict)
    slow: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    stalled: bool = False
    calls: tuple[tuple[str, str], ...] = ()


def run_suite(
    server: ForkServer,
    tree: dict[str, str],
    *,
    ids: Iterable[str] | None,
    skip: Iterable[str] = (),
    limit_s: float | None = None,
    wall_s: float | None = None,
    canaries: Canaries = NO_CANARIES,
    explain: bool = False,
    shuffle: random.Random | None = None,
    cpu_s: float | None = None,
    stall_s: int | None = None,
    budget_s: float | None = None,
    trace: Sequence[str] = (),
    backwards: bool = False,
    elsewhere: bool = False,
    record: Sequence[str] = (),
) -> SuiteRun:
    """Run tests of `tree` in the sandbox.

    Args:
        server: A fork-server with pytest preloaded.
        tree: All files of the project, path to text.
        ids: Test ids to run, or None for all that pytest finds.
        skip: Ids, functions, classes and files that are not run.
        limit_s: Seconds that it may compute, and as many that it may sleep.
        wall_s: Instead, wall seconds for the whole run, however busy the machine is.
        canaries: Tests that must fail, to mix in.
        explain: Let pytest rewrite asserts, for readable messages, though the suite does without.
        shuffle: Draws the order of imports and of tests; tests of a class stay together.
        cpu_s: With `wall_s`, CPU seconds after which the kernel kills it; None for as many.
        stall_s: Seconds without computing after which it ends itself; None for no such end.
        budget_s: Seconds for all tests, by which slow ones are known and ended.
        trace: Files of which to note the lines that each test executes; `record`: the calls.
        backwards: Run traced tests in the opposite order.
        elsewhere: In other folders, with another process id and another local date.

    Raises:
        InfrastructureError: The sandbox failed, not the tests.
    """
    wanted = None if ids is None else frozenset(ids)
    test_files = sorted({test_id.partition("::")[0] for test_id in wanted or ()})
    config = read_pytest_config(tree)
    _mix_in_files(test_files, canaries, shuffle)
    numbered = None if wanted is None else _number_tests(wanted, canaries.like)
    request: dict[str, Any] = {
        "files": tree | canaries.files,
        "test_files": test_files,
        "ids": numbered and [canaries.renamed.get(test_id, test_id) for test_id in numbered],
        "skip": sorted(skip),
        "output_bytes": _choose_limit(wanted, record),
        **_describe_setting(server.interpreter, config, tree, explain, selects=wanted is None),
    }
    others: dict[str, Any] = {"cpu_s": cpu_s, "stall_s": stall_s, "budget_s": budget_s}
    others |= {"order": shuffle and shuffle.getrandbits(32), "elsewhere": elsewhere or None}
    others |= {"trace": [*trace] or None, "record": [*record] or None, "backwards": backwards}
    request |= {name: value for name, value in others.items() if value is not None}
    report = _run(server, request, limit_s=limit_s, wall_s=wall_s)
    return _read_suite(report, [*(numbered or ()), *test_files], wanted, canaries.like)


def _run(
    server: ForkServer, request: dict[str, Any], *, limit_s: float | None, wall_s: float | None
) -> RunReport:
    if limit_s is not None:
        return server.run_limited(request, limit_s=limit_s)
    return server.run(request, wall_s=wall_s or 0.0)


def _number_tests(wanted: Collection[str], canaries: Collection[str]) -> list[str]:
    """Return all ids so that no place says which test is none of the suite's."""
    numbered = sorted({*wanted, *canaries})
    secrets.SystemRandom().shuffle(numbered)
    return numbered


def _choose_limit(wanted: Collection[str] | None, record: Sequence[str]) -> int:
    """Return how many bytes a run may report."""
    if record or not wanted:
        return _MOST_BYTES
    return max(_LEAST_BYTES, _BYTES_PER_TEST * len(wanted))


def _describe_setting(
    interpreter: Interpreter,
    config: PytestConfig,
    tree: dict[str, str],
    explain: bool,
    *,
    selects: bool,
) -> dict[str, Any]:
    """Return what a request says of the project's own setting."""
    runtime = interpreter.runtime
    mode = "rewrite" if explain or runtime.rewrites_asserts else "plain"
    plugins = interpreter.plugins
    options = list_run_options(config, files=tree, plugins=plugins, selects=selects)
    return {
        "kind": "pytest",
        "explain": explain,
        "config": config.path,
        "options": [*options, f"--assert={mode}"],
        "names_test": any(
            "PYTEST_CURRENT_TEST" in text for path, text in tree.items() if is_test_file(path)
        ),
        "paths": [".", *runtime.paths],
        "environment": dict(runtime.environment),
    }


def _mix_in_files(test_files: list[str], canaries: Canaries, shuffle: random.Random | None) -> None:
    """Put the files of canaries among the others, all of which may be shuffled."""
    order = shuffle or random.Random(0)
    for path in canaries.files.keys() - set(test_files):
        test_files.insert(order.randrange(len(test_files) + 1), path)
    if shuffle is not None:
        shuffle.shuffle(test_files)  # as they are imported


def is_test_file(path: str) -> bool:
    """Tell whether a path belongs to a suite: a test file, a conftest, or any under `tests/`."""
    *folders, name = path.split("/")
    return (
        name in ("conftest.py", "tests.py")
        or name.startswith("test_")
        or name.endswith("_test.py")
        or any(folder in ("tests", "test") for folder in folders)
    )


def list_suite(files: Iterable[str], recorded: Collection[str] = ()) -> frozenset[str]:
    """Return the files of a suite: those that are recorded, else those whose names say it."""
    return frozenset(recorded) or frozenset(filter(is_test_file, files))


def is_collected(path: str) -> bool:
    """Tell by its name whether a file is searched for tests: as pytest does, or `tests.py`."""
    name = PurePosixPath(path).name
    is_named = name.startswith("test_") or name.endswith("_test.py") or name == "tests.py"
    return is_named and name.endswith(".py")


def _read_suite(
    report: RunReport,
    names: list[str],
    wanted: frozenset[str] | None,
    canaries: Mapping[str, str],
) -> SuiteRun:
    seen = _Seen(names, may_name=wanted is None, forged=report.ending == "forged")
    whole, _, _ = report.output.rpartition("\n")  # a run that was killed may have cut its last line
    for line in whole.split("\n") if whole else ():
        if not seen.take(_suite_line(line)):
            break  # of what follows nothing is the reporter's for sure, and reading it takes time
    passed = {test_id for test_id, phases in seen.phases.items() if phases == _GREEN}
    failures = seen.failures - seen.slow.keys()
    messages = {test: text for test, text in seen.messages.items() if test not in seen.slow}
    silent = {test_id for test_id, like in canaries.items() if like and like not in passed}
    failed = {test_id for test_id in canaries if ("call", "failed") in seen.phases.get(test_id, [])}
    known = passed - canaries.keys() if wanted is None else passed & wanted
    return SuiteRun(
        passed=frozenset(known - seen.slow.keys()),
        messages=messages,
        failed=frozenset(failures - canaries.keys()),
        skipped=frozenset(messages.keys() - failures - canaries.keys()),
        num_canaries_failed=len(failed | silent),
        complete=seen.complete and report.ending == "exited" and report.exit_code == 0,
        forged=seen.forged or bool(passed & (canaries.keys() - silent)),
        ending=report.ending,
        last_started=seen.last_started,
        cpu_s=report.cpu_s,
        seconds=seen.seconds,
        slow=seen.slow,
        lines=seen.lines,
        calls=tuple(seen.calls),
        stalled=seen.stalled,
    )


@dataclass
class _Seen:
    """What the lines of a report say, as they come.

    `names` are what numbers stand for; a run of all tests gives more of them (`may_name`).
    """

    names: list[str]
    may_name: bool
    phases: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    failures: set[str] = field(default_factory=set)
    lines: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    slow: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = False
    forged: bool = False
    stalled: bool = False
    last_started: str = ""

    def take(self, record: tuple[str, int, str, str] | None) -> bool:
        """Note a line; False if it is none of the reporter's: malformed, or behind the last one."""
        if record is None or self.complete or not self._is_fit(record[0], record[1]):
            self.forged = True
            return False
        phase, number, outcome, text = record
        test_id = self.names[number] if number in range(len(self.names)) else ""
        if phase == "name":
            self.names.append(text)
        elif phase == "done":
            self.complete = True
        elif phase == "start":
            self.last_started = test_id
        elif phase == "left":
            self.messages[test_id] = "left out"
        elif phase == "stalled":
            self.stalled = True
        elif phase == "lines":
            self.lines[test_id] = text
        elif phase == "calls":
            self.calls.append((test_id, text))
        elif phase == "took":
            self.seconds[test_id] = _seconds(text)
            self.slow |= {test_id: outcome} if outcome else {}
        elif phase == "collect":
            self.messages[test_id or "conftest.py"] = text
            self.failures.add(test_id or "conftest.py")
        elif phase == "passed":
            self.phases.setdefault(test_id, []).extend(_GREEN)
        elif test_id:
            self.phases.setdefault(test_id, []).append((phase, outcome))
            if outcome != "passed":
                self.messages[test_id] = text
            if outcome == "failed":
                self.failures.add(test_id)
        return True

    def _is_fit(self, phase: str, number: int) -> bool:
        """Tell whether a number stands for something, or is the next where a name comes."""
        if phase == "name":
            return self.may_name and number == len(self.names)
        return NO_NAME <= number < len(self.names)


def _seconds(text: str) -> float:
    try:
        return max(0.0, min(float(text), 1e6))
    except ValueError:
        return 0.0


def _suite_line(line: str) -> tuple[str, int, str, str] | None:
    try:
        phase, number, outcome, text = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    if type(number) is not int or not all(type(part) is str for part in (phase, outcome, text)):
        return None
    return representable(phase), number, representable(outcome), representable(text)
