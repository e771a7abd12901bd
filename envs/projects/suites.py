"""The suites of a build's projects: each is measured when tasks are first to come from it.

Measuring takes eight runs of a suite, so a small set of many projects would otherwise spend most of
its time on projects of which it has no task. What is measured follows from the counts, the seed
and the lock file alone, so the set does not depend on what the cache knows.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from envs.errors import InfrastructureError, UserError
from envs.projects.baseline import Baseline, baseline
from envs.projects.lock_file import Project
from envs.projects.repair_task import MAX_SUITE_CPU_S
from envs.sandbox.server_pool import ServerPool
from envs.tasks.build_report import RED, TOO_SLOW, Report, Tally
from envs.tasks.store import Files
from envs.tasks.streak import NO_SANDBOX

_LOG = logging.getLogger(__name__)


class Suites:
    """What is known of the suites; the same object serves the whole build.

    Args:
        servers: Run them.
        cache_dir: Where is kept what was measured.
        pool: Measures several side by side.
        tally: Counts and names the projects that are left out.
        report: Takes progress.

    Attributes:
        num_green: Measured suites that tasks can be made with.
        failures: Why each of the others is left out.
    """

    def __init__(
        self, servers: ServerPool, *, cache_dir: Path, pool: Executor, tally: Tally, report: Report
    ) -> None:
        self.num_green = 0
        self.failures: list[UserError | InfrastructureError] = []
        self._servers, self._cache_dir, self._pool = servers, cache_dir, pool
        self._tally, self._report = tally, report
        self._found: dict[str, Baseline | None] = {}

    def of(self, project: Project, files: Files) -> Baseline | None:
        """Return a project's suite; None if it is not green, or too slow."""
        self.measure([(project, files)])
        return self._found[project.name]

    def measure(self, trees: Sequence[tuple[Project, Files]]) -> None:
        """Measure those suites that were not yet, side by side."""
        trees = [(project, files) for project, files in trees if project.name not in self._found]
        working = [
            self._pool.submit(
                baseline,
                project,
                files=files,
                server=self._servers.get("pytest", project.runtime),
                cache_dir=self._cache_dir,
            )
            for project, files in trees
        ]
        for done, ((project, _), work) in enumerate(zip(trees, working, strict=True)):
            self._report("measured suites", done, len(trees), project.name)
            try:
                suite: Baseline | None = _quick_enough(project, work.result())
                self.num_green += 1
            except (UserError, InfrastructureError) as error:
                _LOG.warning("%s is left out: %s", project.name, error)
                self._tally.drop(project.name, _reason(error))
                self.failures.append(error)
                suite = None
            self._found[project.name] = suite
        if trees:
            self._report("measured suites", len(trees), len(trees))


def _quick_enough(project: Project, suite: Baseline) -> Baseline:
    if suite.cpu_s > MAX_SUITE_CPU_S:
        raise UserError(
            TOO_SLOW,
            got=f"{project.name}: {suite.cpu_s} s of CPU time",
            remedy=f"exclude its slowest tests: one run may take {MAX_SUITE_CPU_S:.0f} s",
        )
    return suite


def _reason(error: UserError | InfrastructureError) -> str:
    if isinstance(error, InfrastructureError):
        return NO_SANDBOX
    return TOO_SLOW if error.what == TOO_SLOW else RED
