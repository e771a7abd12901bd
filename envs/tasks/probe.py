"""Asks a project's suite which planted bugs are of use: the tests that reach each one, then all.

A first run takes only the tests that reach the bug. If they notice it as they should, two runs of
the whole suite must fail the same tests; should those fail others, then a third one too.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from envs.errors import InfrastructureError
from envs.forkserver import ForkServer
from envs.suite import SuiteRun, run_suite
from envs.tasks.baseline import Baseline
from envs.tasks.mutants import Candidate, Probed, function_of
from envs.tasks.store import Files
from envs.tasks.streak import NO_SANDBOX, Streak
from envs.tasks.verdicts import Verdicts

NUM_RUNS = 3
MAX_SLOWDOWN = 5  # times the CPU time of the unchanged suite, as `mutants.LIMIT_S` for a grading
MIN_CPU_S = 3  # of that limit: a run of few tests imports as much as one of all
WALL_SHARE = 20  # wall seconds for each CPU second of the limit: the machine may be busy
TOO_LONG = "ran too long"
UNREACHED = "no test reaches it"


def probe(
    candidates: Iterable[Candidate],
    *,
    server: ForkServer,
    files: Files,
    suite: Baseline,
    verdicts: Verdicts,
    workers: int,
) -> Generator[Probed, None, None]:
    """Yield what the suite says of each candidate, in order, with `4 * workers` in flight.

    A candidate on which the sandbox fails is tried again in a fresh one, then dropped.

    Args:
        server: Has pytest preloaded.
        files: The unchanged tree.
        suite: What is known of its tests.
        verdicts: What is known of bugs; takes up what is found.

    Raises:
        InfrastructureError: The sandbox failed on several candidates in a row.
    """
    with ThreadPoolExecutor(workers) as pool:
        trial = _Trial(server, files, frozenset(suite.green), _cpu_limit_s(suite), verdicts)
        streak, pending = Streak(), deque[_Pending]()
        try:
            for candidate in candidates:
                known = verdicts.of(candidate)
                reaching = frozenset[str]() if known else suite.reach.tests([candidate.mutation])
                work = known or pool.submit(trial.run, candidate, reaching)
                pending.append(_Pending(candidate, reaching, work))
                if len(pending) >= 4 * workers:
                    yield _settled(pending.popleft(), trial, streak)
            while pending:
                yield _settled(pending.popleft(), trial, streak)
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Trial:
    """What all candidates of a project are tried with."""

    server: ForkServer
    files: Files
    green: frozenset[str]
    cpu_limit_s: int
    verdicts: Verdicts

    def run(self, candidate: Candidate, reaching: frozenset[str]) -> Probed:
        """Try one candidate and write the verdict down, unless the clock on the wall gave it."""
        probed, lasting = self._probed(candidate, reaching)
        if lasting:
            self.verdicts.add(probed)
        return probed

    def _probed(self, candidate: Candidate, reaching: frozenset[str]) -> tuple[Probed, bool]:
        """Return the verdict and whether another try would give the same."""
        failing, num_runs = frozenset[str](), 0
        if not reaching:
            return Probed(candidate, failing, UNREACHED), True
        while num_runs < NUM_RUNS:
            ids = self.green if num_runs else reaching
            run = self._suite(candidate, ids)
            now = ids - run.passed
            reject = self._reject(run, now)
            if reject == TOO_LONG:
                return Probed(candidate, now, reject), run.ending != "timeout"
            if num_runs and now != failing:
                if num_runs > 1 or reaching == self.green:
                    return Probed(candidate, failing, "failing tests differ between runs"), True
                reaching, num_runs = self.green, 0  # others fail too: count whole runs only
            if reject is not None:
                return Probed(candidate, now, reject), True
            failing, num_runs = now, num_runs + 1
        return Probed(candidate, failing, None), True

    def _suite(self, candidate: Candidate, ids: frozenset[str]) -> SuiteRun:
        return run_suite(
            self.server,
            self.files | {candidate.mutation.path: candidate.text},
            ids=ids,
            wall_s=self.cpu_limit_s * WALL_SHARE,
            cpu_s=self.cpu_limit_s,
        )

    def _reject(self, run: SuiteRun, failing: frozenset[str]) -> str | None:
        if run.ending == "timeout" or (not run.complete and run.cpu_s > self.cpu_limit_s):
            return TOO_LONG
        if not run.complete or any("::" not in test for test in run.messages):
            return "collection or the run itself breaks"
        if not failing:
            return "no test fails"
        if len(failing) > len(self.green) / 2:
            return "more than half of the suite fails"
        if len({function_of(test) for test in failing}) < 2:
            return "one failing test function only"
        return None


@dataclass(frozen=True)
class _Pending:
    candidate: Candidate
    reaching: frozenset[str]
    work: Future[Probed] | Probed


def _settled(pending: _Pending, trial: _Trial, streak: Streak) -> Probed:
    """Wait for a verdict; where the sandbox failed, try once more in a fresh one, then give up."""
    if isinstance(pending.work, Probed):
        return pending.work
    try:
        try:
            probed = pending.work.result()
        except InfrastructureError:
            with ForkServer(preload="pytest") as fresh:
                probed = replace(trial, server=fresh).run(pending.candidate, pending.reaching)
    except InfrastructureError as error:
        streak.failed(error)
        return Probed(pending.candidate, frozenset(), NO_SANDBOX)
    streak.worked()
    return probed


def _cpu_limit_s(suite: Baseline) -> int:
    return max(MIN_CPU_S, math.ceil(MAX_SLOWDOWN * suite.cpu_s))
