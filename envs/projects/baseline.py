"""What is known of a project's unchanged suite: its stable tests, and the lines that each executes.

A test is stable if it passes in five runs: three in file order with hash seed 0, two in random
order with other hash seeds, all in the sandbox. One that fails in some of them is flaky, one that
fails in all of them red. Then one run is timed and two are traced.

This is done once for a tree, a Python, a pytest and a state of the code that runs a suite, and kept
in the cache.
"""

import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import MappingProxyType

from pydantic import ValidationError

from envs.errors import UserError
from envs.files import hash_text, write_whole
from envs.grading.test_suite import SuiteRun, run_suite
from envs.projects.lock_file import Project
from envs.projects.test_impact import TestImpact
from envs.records import Record
from envs.sandbox.child_coverage import ALL_LINES
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter
from envs.source_text import text_lines
from envs.tasks.code_key import CHILD, code_key
from envs.tasks.store import Files, hash_tree

NUM_RUNS = 7  # of a suite in all: five, two traced ones
NUM_ORDERED_RUNS = 3  # of five in all, with hash seed 0
RANDOM_SEEDS = (1, 2)  # hash seeds of the other two, and seeds of their order
SUITE_LIMIT_S = 120.0  # of computing, and as much of sleep
TRACED_SLOWDOWN = 10  # tracing took 5 to 7 times the CPU time of inflection, toolz
MAX_RED_SHARE = 0.1  # of a suite that may be left out for failing here
_SLOWER = 4  # than it was when it was admitted
ABSENT = "did not pass in every run"  # skipped, or with another name: a set or the time of day
TOO_SLOW = "took too long with the tests that stay"  # alone, or with all, it may be quick
_NUM_NAMED = 5  # failing tests that an error names


@dataclass(frozen=True)
class FiveRuns:
    """What five runs of a suite said.

    Attributes:
        stable_tests: Ids of the tests that passed in all of them, in order.
        flaky: Of tests that failed or were skipped in some of them, what they said.
        red: Of tests that failed in all of them, and of files without tests that could be
            collected, what they said.
        cpu_s: CPU seconds of one run, the median.
        ending: How the worst of them ended: 'exited' if all reached their end, else 'timeout',
            'overflow' or 'crashed'.
    """

    stable_tests: tuple[str, ...] = ()
    flaky: dict[str, str] = field(default_factory=dict)
    red: dict[str, str] = field(default_factory=dict)
    cpu_s: float = 0.0
    ending: str = "exited"


@dataclass(frozen=True)
class Baseline:
    """An unchanged suite.

    Attributes:
        stable_tests: Ids of the tests that passed in five runs.
        cpu_s: CPU seconds of one run of them.
        impact: Which of them reach a mutation.
    """

    stable_tests: tuple[str, ...]
    cpu_s: float
    impact: TestImpact


class Measured(Record):
    """What the cache keeps of a suite.

    Attributes:
        key: All that it depends on; '' before it is kept.
        traced: The files that were traced, by number.
        traces: Of two runs what each test executed (`envs/sandbox/child_coverage.py`).
        is_whole: Both of them reached their end.
    """

    key: str = ""
    stable_tests: tuple[str, ...]
    cpu_s: float
    traced: tuple[str, ...]
    traces: tuple[dict[str, str], ...]
    is_whole: bool = True


def measure_baseline(
    project: Project,
    *,
    files: Files,
    server: ForkServer,
    cache_dir: Path,
    on_run: Callable[[str], None] = lambda _: None,
) -> Baseline:
    """Return what is known of a project's suite, after seven runs of it if nothing is.

    Args:
        files: Its whole tree.
        server: Runs the traced ones; has pytest preloaded.
        cache_dir: Where it is kept.
        on_run: Takes what a run of the suite is for, before each of `NUM_RUNS`.

    Raises:
        UserError: The suite is not green.
        InfrastructureError: The sandbox failed.
    """
    try:
        known = Measured.model_validate_json(_find_place(project, cache_dir).read_bytes())
    except (OSError, ValidationError):
        known = None
    if known is None or known.key != _name_state(project, files, cache_dir):
        limit_s = max(SUITE_LIMIT_S, _SLOWER * project.suite_s)
        runs = run_until_green(
            files,
            excluded=project.excluded_tests,
            limit_s=limit_s,
            leaves_out=project.source == "path",
            interpreter=project.find_interpreter(cache_dir=cache_dir),
            on_run=on_run,
        )
        paths = project.mutated
        known = trace_suite(files, runs, paths=paths, server=server, limit_s=limit_s, on_run=on_run)
        keep_measured(known, project, files=files, cache_dir=cache_dir)
    impact = TestImpact(
        files, paths=known.traced, stable_tests=known.stable_tests, traces=known.traces
    )
    return Baseline(known.stable_tests, known.cpu_s, impact)


def trace_suite(
    files: Files,
    runs: FiveRuns,
    *,
    paths: Sequence[str],
    server: ForkServer,
    limit_s: float = SUITE_LIMIT_S,
    on_run: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Return what each stable test executes of `paths`, in two runs of opposite orders.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    tests, traced_s = runs.stable_tests, TRACED_SLOWDOWN * limit_s
    traced = []
    for backwards in (False, True):
        on_run("traced, to see what each test executes")
        traced.append(
            run_suite(server, files, ids=tests, limit_s=traced_s, trace=paths, backwards=backwards)
        )
    return Measured(
        stable_tests=tests,
        cpu_s=round(runs.cpu_s, 2),
        traced=tuple(paths),
        traces=tuple(
            {name: lines for name, lines in run.lines.items() if name in {"", *run.passed}}
            for run in traced  # without tests that failed: tracing disturbed them
        ),
        is_whole=all(run.ending != "timeout" for run in traced),
    )


def leave_out_heavy(
    known: Measured, seconds: Mapping[str, float], *, most_s: float
) -> tuple[Measured, dict[str, str]]:
    """Leave out tests that each bug would have to wait for: they take long and may reach any.

    Args:
        known: The whole suite.
        seconds: What each test takes.
        most_s: Seconds of a test of which nobody can tell what it executes.

    Returns:
        The rest, and why each of the others is left out.
    """
    heavy = {
        test: f"slow: {seconds[test]:.1f} s for every bug, since what it reaches cannot be told"
        for test in known.stable_tests
        if seconds.get(test, 0.0) > most_s
        and any(trace.get(test, ALL_LINES).startswith(ALL_LINES) for trace in known.traces)
    }
    stable = tuple(test for test in known.stable_tests if test not in heavy)
    return known.model_copy(update={"stable_tests": stable}), heavy


def keep_measured(known: Measured, project: Project, *, files: Files, cache_dir: Path) -> None:
    """Keep what is known of a suite for `measure_baseline`, unless a traced run did not end."""
    if known.is_whole:
        key = _name_state(project, files, cache_dir)
        found = known.model_copy(update={"key": key})
        write_whole(_find_place(project, cache_dir), found.model_dump_json())


def _find_place(project: Project, cache_dir: Path) -> Path:
    return cache_dir / "mutants" / f"{project.name}-{project.version}.suite.json"


def _name_state(project: Project, files: Files, cache_dir: Path) -> str:
    """Return a name for all that decides what is known of a suite."""
    interpreter = project.find_interpreter(cache_dir=cache_dir)
    made_by = [*interpreter.versions, code_key(__name__, CHILD), hash_tree(files)]
    made_by += [project.runtime.model_dump_json(), *interpreter.plugins, *project.suite]
    return hash_text(json.dumps([*made_by, *project.mutated, *sorted(project.excluded_tests)]))


def run_five_times(
    files: Files,
    *,
    ids: Collection[str] | None = None,
    excluded: Collection[str] = (),
    limit_s: float = SUITE_LIMIT_S,
    budget_s: float | None = None,
    begun: SuiteRun | None = None,
    interpreter: Interpreter | None = None,
    servers: Mapping[int, ForkServer] = MappingProxyType({}),
    on_run: Callable[[str], None] = lambda _: None,
) -> FiveRuns:
    """Run a suite five times; skipped tests and those in `excluded` are not counted.

    Args:
        files: The whole tree.
        ids: The tests to run; None for all.
        excluded: Tests that are not run.
        begun: The first of the five, if it was run before.
        limit_s: Seconds that one run may compute, and as many that it may sleep.
        budget_s: Seconds for all tests of a run, by which those that hang are known, ended, and
            left out of the next one.
        interpreter: What runs it, if not the Python that runs this.
        servers: By hash seed, those that are there already for it; others are started.
        on_run: Takes what a run is for, before each.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    runs = [begun] if begun else []
    slow = {test for run in runs for test in run.slow}
    for seed in (0, *RANDOM_SEEDS):
        orders = [random.Random(seed)] if seed else [None] * (NUM_ORDERED_RUNS - len(runs))
        with (
            nullcontext(servers[seed])
            if seed in servers
            else ForkServer(preload="pytest", hash_seed=seed, interpreter=interpreter)
        ) as server:
            for shuffle in orders:
                on_run("to see which tests pass every time")
                run = run_suite(
                    server,
                    files,
                    ids=ids,
                    skip=slow.union(excluded),
                    limit_s=limit_s,
                    budget_s=budget_s,
                    shuffle=shuffle,
                )
                runs.append(run)
                slow.update(run.slow)
                ids = ids or {*run.passed, *run.failed, *run.skipped}  # whose files are shuffled
    return _compare(runs, slow=slow, excluded=excluded)


def _compare(
    runs: Sequence[SuiteRun], *, slow: Collection[str], excluded: Collection[str]
) -> FiveRuns:
    said = {test: run.messages[test] for run in runs for test in run.failed}
    said |= dict.fromkeys(slow, TOO_SLOW)
    ever_passed = frozenset().union(*(run.passed for run in runs))
    always_passed = ever_passed.intersection(*(run.passed for run in runs))
    always_failed = said.keys() & frozenset.intersection(*(run.failed for run in runs))
    flaky = (ever_passed - always_passed) | (said.keys() - always_failed)
    endings = [
        "crashed" if run.ending == "exited" else run.ending for run in runs if not run.complete
    ]
    return FiveRuns(
        stable_tests=tuple(sorted(always_passed - said.keys() - set(excluded))),
        flaky={test: said.get(test, ABSENT) for test in sorted(flaky.difference(excluded))},
        red={test: said[test] for test in sorted(always_failed - flaky - set(excluded))},
        cpu_s=median(run.cpu_s for run in runs),
        ending=endings[0] if endings else "exited",
    )


def find_stable_tests(
    files: Files,
    *,
    excluded: Collection[str] = (),
    interpreter: Interpreter | None = None,
) -> tuple[str, ...]:
    """Return the ids of all tests of an unchanged suite, in order, after five runs that agree.

    Raises:
        UserError: A test failed in some run, or none passed.
        InfrastructureError: The sandbox failed.
    """
    return run_until_green(files, excluded=excluded, interpreter=interpreter).stable_tests


def run_until_green(
    files: Files,
    *,
    excluded: Collection[str] = (),
    limit_s: float = SUITE_LIMIT_S,
    leaves_out: bool = False,
    interpreter: Interpreter | None = None,
    on_run: Callable[[str], None] = lambda _: None,
) -> FiveRuns:
    """Return five runs of an unchanged suite that agree.

    Tests that failed in none of them but were not there in all, under this name, do not count;
    with `leaves_out` a few that failed in some neither.

    Raises:
        UserError: Another test failed in some run, or none passed.
        InfrastructureError: The sandbox failed.
    """
    runs = run_five_times(
        files, excluded=excluded, limit_s=limit_s, interpreter=interpreter, on_run=on_run
    )
    wrong = runs.red | {test: text for test, text in runs.flaky.items() if text != ABSENT}
    if leaves_out and len(wrong) <= MAX_RED_SHARE * (len(wrong) + len(runs.stable_tests)):
        wrong = {}
    if wrong or not runs.stable_tests or runs.ending != "exited":
        nothing = "no test passed" if runs.ending == "exited" else "it hangs"
        raise UserError(
            "the project's suite is not green in five runs",
            got=name_some(wrong) if wrong else nothing,
            remedy="pin a release whose suite passes here, or exclude the test with its reason",
        )
    return runs


def name_some(tests: Mapping[str, str]) -> str:
    """Return the first few of some failing tests by name, and what the first one says."""
    more = f" and {len(tests) - _NUM_NAMED} more" if len(tests) > _NUM_NAMED else ""
    names = ", ".join(list(tests)[:_NUM_NAMED])
    return f"{names}{more}; the first says: {find_reason(next(iter(tests.values())))}"


def find_reason(message: str) -> str:
    """Return the line of a failure that says what went wrong."""
    lines = [line.strip() for line in text_lines(message) if line.strip()]
    marked = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    said = [line for line in lines if "error: " in line]  # of pytest's own options
    reason = (marked[:1] or said[:1] or lines[-1:] or ["nothing"])[0]
    return " ".join(reason.split())[:160]
