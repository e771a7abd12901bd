"""Runs a project's unchanged suite five times and says which tests pass in every run.

Three runs in file order with hash seed 0, two in random order with other hash seeds, all in the
sandbox. A test that fails in some of them is flaky, one that fails in all of them red.
"""

import random
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from statistics import median

from envs.errors import UserError
from envs.grading.test_suite import SuiteRun, run_suite
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter
from envs.source_text import text_lines
from envs.tasks.store import Files

NUM_ORDERED_RUNS = 3  # of five in all, with hash seed 0
RANDOM_SEEDS = (1, 2)  # hash seeds of the other two, and seeds of their order
SUITE_LIMIT_S = 60.0  # of computing, and as much of sleep
ABSENT = "did not pass in every run"  # skipped, or with another name: a set or the time of day
_NUM_NAMED = 5  # failing tests that an error names


@dataclass(frozen=True)
class FiveRuns:
    """What five runs of a suite said.

    Attributes:
        green: Ids of the tests that passed in all of them, in order.
        flaky: Of tests that failed or were skipped in some of them, what they said.
        red: Of tests that failed in all of them, and of files without tests that could be
            collected, what they said.
        cpu_s: CPU seconds of one run, the median.
        wall_s: Wall seconds of the quickest, since the machine may be busy.
        ending: How the worst of them ended: 'exited' if all reached their end, else 'timeout',
            'overflow' or 'crashed'.
    """

    green: tuple[str, ...]
    flaky: dict[str, str]
    red: dict[str, str]
    cpu_s: float
    wall_s: float
    ending: str


def five_runs(
    files: Files,
    *,
    ids: Collection[str] | None = None,
    excluded: Collection[str] = (),
    interpreter: Interpreter | None = None,
) -> FiveRuns:
    """Run a suite five times; skipped tests and those in `excluded` are not counted.

    Args:
        files: The whole tree.
        ids: The tests to run; None for all.
        excluded: Ids of tests that do not count.
        interpreter: What runs it, if not the Python that runs this.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    runs: list[SuiteRun] = []
    walls: list[float] = []
    for seed in (0, *RANDOM_SEEDS):
        orders = [random.Random(seed)] if seed else [None] * NUM_ORDERED_RUNS
        with ForkServer(preload="pytest", hash_seed=seed, interpreter=interpreter) as server:
            for shuffle in orders:
                start = time.monotonic()
                run = run_suite(server, files, ids=ids, limit_s=SUITE_LIMIT_S, shuffle=shuffle)
                runs.append(run)
                walls.append(time.monotonic() - start)
    passes = Counter(test for run in runs for test in run.passed)
    said = {test: run.messages[test] for run in runs for test in run.failed}
    failures = Counter(test for run in runs for test in run.failed)
    unsteady = {test for test in passes if passes[test] < len(runs)}
    unsteady |= {test for test in failures if failures[test] < len(runs)}
    worst = next((run for run in runs if not run.complete), None)
    return FiveRuns(
        green=tuple(sorted(passes.keys() - unsteady - failures.keys() - set(excluded))),
        flaky={test: said.get(test, ABSENT) for test in sorted(unsteady.difference(excluded))},
        red={test: said[test] for test in sorted(failures.keys() - unsteady - set(excluded))},
        cpu_s=median(run.cpu_s for run in runs),
        wall_s=min(walls),
        ending="exited" if worst is None else _ending(worst),
    )


def green_tests(
    files: Files, *, excluded: Collection[str] = (), interpreter: Interpreter | None = None
) -> tuple[str, ...]:
    """Return the ids of all tests of an unchanged suite, in order, after five runs that agree.

    Tests that failed in none of them but were not there in all, under this name, do not count.

    Raises:
        UserError: Another test failed in some run, or none passed.
        InfrastructureError: The sandbox failed.
    """
    runs = five_runs(files, excluded=excluded, interpreter=interpreter)
    wrong = runs.red | {test: text for test, text in runs.flaky.items() if text != ABSENT}
    if wrong or not runs.green or runs.ending != "exited":
        raise UserError(
            "the project's suite is not green in five runs",
            got=named(wrong)
            if wrong
            else {"exited": "no test passed"}.get(runs.ending, "it hangs"),
            remedy="pin a release whose suite passes here, or exclude the test with its reason",
        )
    return runs.green


def named(tests: dict[str, str]) -> str:
    """Return the first few of some failing tests by name, and what the first one says."""
    more = f" and {len(tests) - _NUM_NAMED} more" if len(tests) > _NUM_NAMED else ""
    names = ", ".join(list(tests)[:_NUM_NAMED])
    return f"{names}{more}; the first says: {last_words(next(iter(tests.values())))}"


def last_words(message: str) -> str:
    """Return the line of a failure that says what went wrong."""
    lines = [line.strip() for line in text_lines(message) if line.strip()]
    told = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    told = told[:1] or lines[-1:] or ["nothing"]
    return " ".join(told[0].split())[:160]


def _ending(run: SuiteRun) -> str:
    return "crashed" if run.ending == "exited" else run.ending
