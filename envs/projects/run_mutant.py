"""Runs a project's suite on a planted bug: which tests fail, twice, and what rules the bug out.

These are the first two of three runs. The third one is the no-op's grading, of the whole suite, at
the end of `envs/projects/check_mutant.py`.
"""

import math
from collections.abc import Collection, Iterable

from envs.grading.test_suite import SuiteRun, run_suite
from envs.mutation.bug import Bug
from envs.projects.baseline import Baseline
from envs.projects.verdict_cache import Verdict
from envs.sandbox.fork_server import ForkServer
from envs.tasks.build_report import DIFFERS, TOO_LONG
from envs.tasks.store import Files
from envs.tasks.visible_tests import parse_test_id

NUM_RUNS = 2
MAX_SLOWDOWN = (
    5  # times the CPU time of the unchanged suite, as `repair_task.LIMIT_S` for a grading
)
MIN_CPU_S = 3  # of that limit: a run of few tests imports as much as one of all
WALL_SHARE = 20  # wall seconds for each CPU second of the limit: the machine may be busy
STALL_S = 5  # seconds of a deadlock; no test of a suite that is quick enough waits for so long
ONE_FAILS = "one failing test function only"
NONE_FAILS = "no test fails"
MOST_FAIL = "more than half of the suite fails"
BREAKS = "collection or the run itself breaks"


def run_mutant(
    bug: Bug, *, ids: frozenset[str], server: ForkServer, files: Files, suite: Baseline
) -> Verdict:
    """Run `ids` twice on a tree with a bug in it; once will do if that rules it out.

    Args:
        server: Has pytest preloaded.
        files: The unchanged tree.
        suite: What is known of its tests.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    limit_s = choose_cpu_limit_s(suite)
    tree = files | bug.apply(files)
    found: list[frozenset[str]] = []
    for _ in range(NUM_RUNS):
        wall_s = limit_s * WALL_SHARE
        run = run_suite(server, tree, ids=ids, wall_s=wall_s, cpu_s=limit_s, stall_s=STALL_S)
        found.append(ids - run.passed)
        reject = _reject(run, found[-1], limit_s=limit_s, num_stable=len(suite.stable_tests))
        if reject is not None:
            lasting = reject != TOO_LONG or run.ending != "timeout"
            return Verdict(found[0], reject, is_lasting=lasting)
    return Verdict(found[0], None if len(set(found)) == 1 else DIFFERS)


def choose_cpu_limit_s(suite: Baseline) -> int:
    """Return how many CPU seconds a run of some of the suite's tests may take."""
    return max(MIN_CPU_S, math.ceil(MAX_SLOWDOWN * suite.cpu_s))


def has_one_function(tests: Iterable[str]) -> bool:
    """Tell whether tests are of one function only.

    Functions of one name count as one: classes of several files may have inherited it.
    """
    return len({parse_test_id(test)[1] for test in tests}) < 2


def hides_nothing(tests: Collection[str]) -> bool:
    """Tell whether nothing would be hidden if something is shown: one function, without cases."""
    heads = {test.partition("[")[0] for test in tests}
    return has_one_function(tests) and (len(heads) > 1 or len(tests) < 2)


def _reject(
    run: SuiteRun, failing: frozenset[str], *, limit_s: float, num_stable: int
) -> str | None:
    if run.ending == "timeout" or run.stalled or (not run.complete and run.cpu_s > limit_s):
        return TOO_LONG
    if not run.complete or any("::" not in test for test in run.messages):
        return BREAKS
    if not failing:
        return NONE_FAILS
    if len(failing) > num_stable / 2:
        return MOST_FAIL
    return ONE_FAILS if hides_nothing(failing) else None
