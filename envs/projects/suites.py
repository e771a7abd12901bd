"""The suites of a build's projects: each is measured when tasks are first to come from it.

Measuring takes eight runs of a suite, so a small set of many projects would otherwise spend most of
its time on projects of which it has no task. What is measured follows from the counts, the seed
and the lock file alone, so the set does not depend on what the cache knows.

Tests: tests/envs/projects/test_build_projects.py.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from envs.errors import InfrastructureError, UserError
from envs.mutation.bug import Bug
from envs.projects.baseline import NUM_RUNS, Baseline, measure_baseline
from envs.projects.lock_file import Project
from envs.projects.repair_task import MAX_SUITE_CPU_S
from envs.sandbox.server_pool import ServerPool
from envs.tasks.build_report import NO_SANDBOX, RED, TOO_SLOW, BuildReport, ShowProgress
from envs.tasks.parallel import run_in_order
from envs.tasks.store import Files

_LOG = logging.getLogger(__name__)
Suite = Baseline | UserError | InfrastructureError


@dataclass(eq=False)
class Source:
    """A project with the single mutations to try.

    Attributes:
        suite: What is known of its tests, or why it gives no tasks; None if it was not measured.
    """

    project: Project
    files: Files
    bugs: Sequence[Bug]
    suite: Suite | None = None


def measure_suites(
    sources: Iterable[Source],
    *,
    servers: ServerPool,
    cache_dir: Path,
    pool: Executor,
    report: BuildReport,
    on_progress: ShowProgress,
) -> None:
    """Measure those suites that were not yet, side by side; count what is left out.

    Of one alone each run is told.
    """
    new = [source for source in sources if source.suite is None]
    begun = count()

    def tell(what: str) -> None:
        if len(new) == 1:
            done = min(next(begun), NUM_RUNS)
            on_progress("runs that measure the suite", done, NUM_RUNS, what)

    measured = run_in_order(
        partial(_measure, servers=servers, cache_dir=cache_dir, on_run=tell),
        new,
        on_failure=lambda _, error: error,
        pool=pool,
        ahead=lambda: len(new),
    )
    for done, (source, suite) in enumerate(zip(new, measured, strict=True), start=1):
        if len(new) > 1:
            on_progress("measured suites", done, len(new), source.project.name)
        source.suite = suite
        if not isinstance(suite, Baseline):
            _LOG.warning("%s is left out: %s", source.project.name, suite)
            reject = NO_SANDBOX
            if isinstance(suite, UserError):
                reject = TOO_SLOW if suite.what == TOO_SLOW else RED
            report.drop(source.project.name, reject)


def _measure(
    source: Source, *, servers: ServerPool, cache_dir: Path, on_run: Callable[[str], None]
) -> Suite:
    project = source.project
    server = servers.get("pytest", project.runtime)
    try:
        suite = measure_baseline(
            project, files=source.files, server=server, cache_dir=cache_dir, on_run=on_run
        )
    except UserError as error:
        return error
    if project.source == "path" or suite.cpu_s <= MAX_SUITE_CPU_S:
        return suite
    return UserError(
        TOO_SLOW,
        got=f"{project.name}: {suite.cpu_s} s of CPU time",
        remedy=f"exclude its slowest tests: one run may take {MAX_SUITE_CPU_S:.0f} s",
    )
