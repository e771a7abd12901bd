"""Task sets from real projects: take its share of tasks from each, of those with a green suite.

The projects of a split share its count, those with few bugs to try first: what one cannot fill goes
to those after it. Shares fall with the time of a suite as the lock file has it, because all that
grades a task pays for that. Of a project's share 70 % are single mutations, 20 % two or three in
one file and 10 % two or three across two files; where one kind runs out, the others fill in. What
is combined are the single mutations that were tried before and fail tests, whether or not they are
tasks of their own, so that the set depends neither on timing nor on the number of workers.
"""

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from envs.grading.graders import RoutingGrader
from envs.mutation.bug import Bug, combine
from envs.projects.baseline import Baseline
from envs.projects.check_mutant import OpenTasks, Trial, Tried, tried
from envs.projects.lock_file import Project, fetch, read_sdist
from envs.projects.repair_task import GENERATOR, candidates, repeated_functions
from envs.projects.run_mutant import ONE_FAILS
from envs.projects.suites import Suites
from envs.projects.verdict_cache import Verdicts
from envs.records import SPLITS, Split
from envs.sandbox.server_pool import ServerPool
from envs.tasks.build_report import Report, Tally
from envs.tasks.store import BuiltTask, Files

SINGLE, IN_FILE, ACROSS = "single", "combined in one file", "combined across files"
SHARES = {SINGLE: 0.7, IN_FILE: 0.2, ACROSS: 0.1}  # as design section 6 orders them
FIXED_S = 0.2  # of what a task costs beside runs of its suite, in runs of it: see docs/tasks.md
AHEAD = 2  # bugs begun for each worker: what is begun when a share is full is tried for nothing


@dataclass(frozen=True)
class _Source:
    """A project with the single mutations to try."""

    project: Project
    files: Files
    bugs: Sequence[Bug]


def planted_tasks(
    trees: Sequence[tuple[Project, Files]],
    *,
    counts: Mapping[Split, int],
    seed: int,
    cache_dir: Path,
    workers: int,
    tally: Tally,
    report: Report,
) -> list[BuiltTask]:
    """Return validated tasks of all projects, at most `counts` of each split.

    A project whose suite is not green, or too slow, is left out, counted, and named in the journal.

    Args:
        trees: The projects with their whole trees.
        cache_dir: Where is kept what is known of suites and bugs, for a build that is
            stopped.
        workers: Sandboxed runs under way at once.
        tally: Counts what was dropped.

    Raises:
        UserError: An sdist cannot be had, or no suite is green.
        InfrastructureError: The sandbox failed several times in a row.
    """
    repeats = repeated_functions(trees)
    tally.rejects["function like one of an earlier split"] += len(repeats)
    made: list[BuiltTask] = []
    with (
        ServerPool(cache_dir) as servers,
        RoutingGrader(open_tasks := OpenTasks(), servers) as grader,
        ThreadPoolExecutor(workers) as pool,
    ):
        sources = [
            _Source(project, files, candidates(project, files=files, seed=seed, repeats=repeats))
            for project, files in trees
        ]
        suites = Suites(servers, cache_dir=cache_dir, pool=pool, tally=tally, report=report)
        for source, suite, count, others in _turns(sources, counts, made, suites=suites):
            project, files = source.project, source.files
            server = servers.get("pytest", project.runtime)
            kept = cache_dir / "mutants" / f"{project.name}-{project.version}.jsonl"
            verdicts = Verdicts(kept, files=files, green=suite.green)
            trial = Trial(project, files, suite, seed, server, grader, open_tasks, verdicts)
            for one in _of_project(source, trial=trial, count=count, pool=pool, workers=workers):
                report("validated tasks", len(made), len(made) + others + count, project.name)
                _count(one, project, tally)
                if one.task is not None:
                    made.append(one.task)
                    count -= 1
    report("validated tasks", len(made), len(made))
    return made


def kind_of(bug: Bug) -> str:
    """Return the key of `SHARES` that a bug counts for."""
    if len(bug.mutations) == 1:
        return SINGLE
    return IN_FILE if len(bug.paths) == 1 else ACROSS


def read_projects(
    projects: Sequence[Project], counts: Mapping[Split, int], cache_dir: Path, report: Report
) -> list[tuple[Project, Files]]:
    """Return the trees of the projects of those splits of which tasks are asked for.

    Raises:
        UserError: An sdist cannot be had, or is not the one that is pinned.
    """
    trees = []
    projects = [project for project in projects if counts[project.split] > 0]
    for done, project in enumerate(projects):
        report("read projects", done, len(projects), project.name)
        trees.append((project, read_sdist(project, sdist=fetch(project, cache_dir=cache_dir))))
    report("read projects", len(projects), len(projects))
    return trees


def _turns(
    sources: Sequence[_Source],
    counts: Mapping[Split, int],
    made: Sequence[BuiltTask],
    *,
    suites: Suites,
) -> Iterator[tuple[_Source, Baseline, int, int]]:
    """Yield each project with its suite, its share, and what is wanted of those after it.

    Shares follow from the tasks that were made before. A project with no share takes no turn.

    Raises:
        UserError: No suite is green.
        InfrastructureError: The sandbox failed, and no suite is green.
    """
    sharing = {split: _sharing(sources, split, counts[split], suites) for split in SPLITS}
    if suites.failures and not suites.num_green:
        raise suites.failures[0]
    for number, split in enumerate(SPLITS):
        start, wanted = len(made), counts[split]
        later = sum(counts[other] for other in SPLITS[number + 1 :])
        for at, source in enumerate(sharing[split]):
            left = wanted - (len(made) - start)
            share = _shares(sharing[split][at:], left)[0]
            suite = suites.of(source.project, source.files) if share else None
            if suite is not None:
                yield source, suite, share, left - share + later


def _sharing(
    sources: Sequence[_Source], split: Split, wanted: int, suites: Suites
) -> list[_Source]:
    """Return the projects that share what is wanted of a split, in the order of their turns.

    Measured are those that get some of it if each fills its share, until all of these are green;
    another one is measured when its turn comes after all, since those before it lacked bugs.
    """
    sharing = [source for source in sources if source.project.split == split]
    sharing.sort(key=lambda source: (len(source.bugs), source.project.name))
    while True:
        shares = zip(sharing, _shares(sharing, wanted), strict=True)
        drawn = [source for source, share in shares if share]
        suites.measure([(source.project, source.files) for source in drawn])
        red = [each for each in drawn if suites.of(each.project, each.files) is None]
        if not red:
            return sharing
        sharing = [source for source in sharing if source not in red]


def _shares(sharing: Sequence[_Source], wanted: int) -> list[int]:
    """Return how many tasks each project is to give, if those before it give theirs."""
    weights = [1 / (FIXED_S + each.project.suite_s) for each in sharing]
    shares = list[int]()
    for at, weight in enumerate(weights):
        shares.append(round(wanted * weight / sum(weights[at:])))
        wanted -= shares[-1]
    return shares


def _of_project(
    source: _Source, *, trial: Trial, count: int, pool: Executor, workers: int
) -> Generator[Tried, None, None]:
    """Yield what becomes of bugs until `count` of them are tasks, or none are left."""
    share = {kind: int(SHARES[kind] * count) for kind in (IN_FILE, ACROSS)}
    seen: list[Tried] = []
    with ExitStack() as stack:

        def begin(bugs: Sequence[Bug]) -> Iterator[Tried]:
            found = tried(bugs, trial=trial, pool=pool, ahead=AHEAD * workers)
            return stack.enter_context(closing(found))

        begun = [begin(source.bugs)]
        made = yield from _until(begun[0], count - sum(share.values()), seen)
        failing = {
            one.bug.mutations[0]: one.verdict.failing
            for one in seen
            if one.verdict.reject in (None, ONE_FAILS)
        }
        for kind in (IN_FILE, ACROSS):
            draw = random.Random(f"{GENERATOR}:{source.project.name}:{trial.seed}:{kind}")
            begun.append(begin(combine(failing, rng=draw, across_files=kind == ACROSS)))
            made += yield from _until(begun[-1], share[kind], seen)
        for found in begun:
            made += yield from _until(found, count - made, seen)


def _until(
    found: Iterator[Tried], num_tasks: int, seen: list[Tried]
) -> Generator[Tried, None, int]:
    """Yield and note what is found until so many are tasks; return how many are."""
    made = 0
    while made < num_tasks and (one := next(found, None)) is not None:
        made += one.task is not None
        seen.append(one)
        yield one
    return made


def _count(one: Tried, project: Project, tally: Tally) -> None:
    if one.verdict.reject is not None:
        places = ", ".join(f"{bug.path}:{bug.line} {bug.operator}" for bug in one.bug.mutations)
        tally.drop(f"{project.name} {places}", one.verdict.reject)
    kind = kind_of(one.bug)
    tally.count(
        one.bug.operators[0] if kind == SINGLE else kind,
        noticed=bool(one.verdict.failing),
        useful=one.task is not None,
    )
