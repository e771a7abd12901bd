"""Task sets from real projects: take its share of tasks from each, of those with a green suite.

The projects of a split share its count, those with few bugs to try first: what one cannot fill goes
to those after it. Shares fall with the time of a suite as the lock file has it, because all that
grades a task pays for that. Of a project's share 70 % are single mutations, 20 % two or three in
one file and 10 % two or three across two files; where one kind runs out, the others fill in. What
is combined are the single mutations that were tried before and are tasks, so that the set depends
neither on timing nor on the number of workers, and each of the bugs is shown as in its own task.
"""

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from envs.grading.test_suite import list_suite
from envs.mutation.bug import Bug, Symptoms, combine, combine_files
from envs.mutation.operators import Mutation
from envs.projects.baseline import SUITE_LIMIT_S, Baseline
from envs.projects.check_mutant import MutantCheck, MutantResult
from envs.projects.lock_file import Project, fetch, read_sdist
from envs.projects.record_calls import record_calls
from envs.projects.repair_task import GENERATOR, find_repeats, list_candidates
from envs.projects.suites import Source, measure_suites
from envs.projects.verdict_cache import Verdicts
from envs.records import SPLITS, Split
from envs.sandbox.server_pool import ServerPool
from envs.tasks.build_report import REPEATED, BuildReport, ShowProgress
from envs.tasks.gold_episode import measure_room
from envs.tasks.store import BuiltTask, Files
from envs.tasks.visible_tests import parse_test_id

SINGLE, IN_FILE, ACROSS = "single", "combined in one file", "combined across files"
SHARES = {SINGLE: 0.7, IN_FILE: 0.2, ACROSS: 0.1}  # as design section 6 orders them
FIXED_S = 0.2  # of what a task costs beside runs of its suite, in runs of it: see docs/tasks.md
Measure = Callable[[Sequence[Source]], None]
# Bugs begun for each worker, as one may take long: fewer when few tasks are left to make, since
# what is begun when a share is full is tried for nothing.
LEAST_AHEAD, MOST_AHEAD = 2, 8
SINGLES_PER_LONG = 3  # [reasoned] single bugs to choose from, for each long task


def make_project_tasks(
    trees: Sequence[tuple[Project, Files]],
    *,
    counts: Mapping[Split, int],
    seed: int,
    cache_dir: Path,
    workers: int,
    report: BuildReport,
    on_progress: ShowProgress,
    lengths: Sequence[int] = (),
) -> list[BuiltTask]:
    """Return validated tasks of all projects, at most `counts` of each split.

    A project whose suite is not green, or too slow, is left out, counted, and named in the journal.
    A project of the user's own is given up at `MOST_REJECTS` of one reason without a task.

    Args:
        trees: The projects with their whole trees.
        cache_dir: Where is kept what is known of suites and bugs, for a build that is stopped.
        workers: Sandboxed runs under way at once.
        report: Counts what was dropped.
        on_progress: Takes progress.
        lengths: Of long tasks, files with a bug, in turn for each task; none are made without.

    Raises:
        UserError: An sdist cannot be had, or no suite is green.
        InfrastructureError: The sandbox failed several times in a row.
    """
    made: list[BuiltTask] = []
    check_bugs = partial(_check_bugs, seed=seed, workers=workers)
    if lengths:
        check_bugs = partial(_check_long, lengths=lengths)
    sources = _list_sources(trees, seed=seed, report=report)
    python = next((project.python for project, _ in trees if project.python), "")
    with ServerPool(cache_dir, python=python) as servers, ThreadPoolExecutor(workers) as pool:
        measure = partial(
            measure_suites,
            servers=servers,
            cache_dir=cache_dir,
            pool=pool,
            report=report,
            on_progress=on_progress,
        )
        for source, suite, count, others in _take_turns(sources, counts, made, measure=measure):
            project = source.project
            check = _open_check(source, suite, seed=seed, servers=servers, cache_dir=cache_dir)
            run = partial(check.run_all, pool=pool)
            for result in check_bugs(source, run=run, count=count):
                note = f"{project.name}: {report.describe()}"
                on_progress("tasks", len(made), len(made) + others + count, note)
                _count(result, project, report)
                if result.task is not None:
                    made.append(result.task)
                    count -= 1
                elif project.source == "path" and not made and report.find_repeated():
                    return []
    if made:
        on_progress("tasks", len(made), len(made), report.describe())
    return made


def _list_sources(
    trees: Sequence[tuple[Project, Files]], *, seed: int, report: BuildReport
) -> list[Source]:
    """Return the projects with the bugs to try, and count the functions that are left alone."""
    repeats = find_repeats(trees)
    if repeats:
        report.rejects[REPEATED] += len(repeats)
    return [
        Source(project, files, list_candidates(project, files=files, seed=seed, repeats=repeats))
        for project, files in trees
    ]


def _open_check(
    source: Source, suite: Baseline, *, seed: int, servers: ServerPool, cache_dir: Path
) -> MutantCheck:
    """Return what a project's bugs are checked with, and what is known of them."""
    project, files = source.project, source.files
    kept = cache_dir / "mutants" / f"{project.name}-{project.version}.jsonl"
    verdicts = Verdicts(kept, files=files, stable_tests=suite.stable_tests)
    server = servers.get("pytest", project.runtime)
    recording = record_calls(
        files,
        tests=suite.stable_tests,
        suite=list_suite(files, project.suite),
        limit_s=max(SUITE_LIMIT_S, suite.cpu_s),
        server=server,
        path=kept.with_suffix(".calls.json"),
    )
    return MutantCheck(project, files, suite, seed, server, verdicts, recording)


def classify(bug: Bug) -> str:
    """Return the key of `SHARES` that a bug counts for."""
    if len(bug.mutations) == 1:
        return SINGLE
    return IN_FILE if len(bug.paths) == 1 else ACROSS


def read_projects(
    projects: Sequence[Project],
    counts: Mapping[Split, int],
    cache_dir: Path,
    on_progress: ShowProgress,
) -> list[tuple[Project, Files]]:
    """Return the trees of the projects of those splits of which tasks are wanted.

    Raises:
        UserError: An sdist cannot be had, or is not the one that is pinned.
    """
    trees = []
    projects = [project for project in projects if counts[project.split] > 0]
    for done, project in enumerate(projects):
        on_progress("read projects", done, len(projects), project.name)
        trees.append((project, read_sdist(project, sdist=fetch(project, cache_dir=cache_dir))))
    on_progress("read projects", len(projects), len(projects))
    return trees


def _take_turns(
    sources: Sequence[Source],
    counts: Mapping[Split, int],
    made: Sequence[BuiltTask],
    *,
    measure: Measure,
) -> Iterator[tuple[Source, Baseline, int, int]]:
    """Yield each project with its suite, its share, and what is wanted of those after it.

    Shares follow from the tasks that were made before. A project with no share takes no turn.

    Raises:
        UserError: No suite is green.
        InfrastructureError: The sandbox failed, and no suite is green.
    """
    sharing = {split: _find_sharing(sources, split, counts[split], measure) for split in SPLITS}
    suites = [source.suite for source in sources if source.suite is not None]
    failures = [suite for suite in suites if not isinstance(suite, Baseline)]
    if failures and len(failures) == len(suites):
        raise failures[0]
    for number, split in enumerate(SPLITS):
        start, wanted = len(made), counts[split]
        later = sum(counts[other] for other in SPLITS[number + 1 :])
        for at, source in enumerate(sharing[split]):
            left = wanted - (len(made) - start)
            share = _shares(sharing[split][at:], left)[0]
            if share:
                measure([source])
                if isinstance(source.suite, Baseline):
                    yield source, source.suite, share, left - share + later


def _find_sharing(
    sources: Sequence[Source], split: Split, wanted: int, measure: Measure
) -> list[Source]:
    """Return the projects that share what is wanted of a split, in the order of their turns.

    Measured are those that get some of it if each fills its share, until all of these are green;
    another one is measured when its turn comes after all, since those before it lacked bugs.
    """
    sharing = [source for source in sources if source.project.split == split]
    sharing.sort(key=lambda source: (len(source.bugs), source.project.name))
    while True:
        shares = zip(sharing, _shares(sharing, wanted), strict=True)
        drawn = [source for source, share in shares if share]
        measure(drawn)
        red = [source for source in drawn if not isinstance(source.suite, Baseline)]
        if not red:
            return sharing
        sharing = [source for source in sharing if source not in red]


def _shares(sharing: Sequence[Source], wanted: int) -> list[int]:
    """Return how many tasks each project is to give, if those before it give theirs."""
    weights = [1 / (FIXED_S + each.project.suite_s) for each in sharing]
    shares = list[int]()
    for at, weight in enumerate(weights):
        shares.append(round(wanted * weight / sum(weights[at:])))
        wanted -= shares[-1]
    return shares


def _check_bugs(
    source: Source,
    *,
    run: Callable[..., Generator[MutantResult, None, None]],
    count: int,
    seed: int,
    workers: int,
) -> Generator[MutantResult, None, None]:
    """Yield what becomes of bugs until `count` of them are tasks, or none are left."""
    share = {kind: int(SHARES[kind] * count) for kind in (IN_FILE, ACROSS)}
    seen: list[MutantResult] = []
    left = 0

    def begin(bugs: Sequence[Bug]) -> Iterator[MutantResult]:
        return stack.enter_context(closing(run(bugs, ahead=count_ahead)))

    def count_ahead() -> int:
        return workers * min(max(LEAST_AHEAD, left // workers), MOST_AHEAD)

    def take(results: Iterator[MutantResult], num_tasks: int) -> Iterator[MutantResult]:
        nonlocal left
        left = num_tasks
        while left > 0 and (result := next(results, None)) is not None:
            left -= result.task is not None
            seen.append(result)
            yield result

    with ExitStack() as stack:
        begun = [begin(source.bugs)]
        yield from take(begun[0], count - sum(share.values()))
        singles = {
            result.bug.mutations[0]: _find_symptoms(result)
            for result in seen
            if result.task is not None and result.verdict.case is None
        }
        for kind in (IN_FILE, ACROSS):
            draw = random.Random(f"{GENERATOR}:{source.project.name}:{seed}:{kind}")
            begun.append(begin(combine(singles, rng=draw, across_files=kind == ACROSS)))
            yield from take(begun[-1], share[kind])
        for results in begun:
            made = sum(result.task is not None for result in seen)
            yield from take(results, count - made)


def _check_long(
    source: Source,
    *,
    run: Callable[..., Generator[MutantResult, None, None]],
    count: int,
    lengths: Sequence[int],
) -> Generator[MutantResult, None, None]:
    """Yield what becomes of single bugs, which are kept as no tasks, then of those made of them.

    In several files at once, those first of which the single bugs have the largest least peaks.
    """
    singles: dict[Mutation, Symptoms] = {}
    sizes: dict[Mutation, int] = {}
    with closing(run(source.bugs, ahead=lambda: LEAST_AHEAD)) as results:
        for result in results:
            if result.task is not None and result.verdict.case is None:
                mutation = result.bug.mutations[0]
                singles[mutation] = _find_symptoms(result)
                sizes[mutation] = measure_room(result.task)
            yield replace(result, task=None)
            if len(singles) >= max(lengths) + SINGLES_PER_LONG * count:
                break
    for at, length in enumerate(lengths):
        bugs = combine_files(singles, sizes=sizes, num_files=length)
        wanted = (count + at) // len(lengths)
        with closing(run(bugs, ahead=lambda: LEAST_AHEAD)) as results:
            for result in results:
                if wanted == 0:
                    break
                wanted -= result.task is not None
                yield result


def _find_symptoms(result: MutantResult) -> Symptoms:
    """Return what a single bug does, of a task that was made of it."""
    verdict = result.verdict
    return Symptoms(verdict.shown[0], frozenset(map(parse_test_id, verdict.failing)))


def _count(result: MutantResult, project: Project, report: BuildReport) -> None:
    bug, reject = result.bug, result.verdict.reject
    if reject is not None:
        places = ", ".join(f"{one.path}:{one.line} {one.operator}" for one in bug.mutations)
        report.drop(f"{project.name} {places}", reject)
    kind = classify(bug)
    report.count(
        bug.operators[0] if kind == SINGLE else kind,
        noticed=bool(result.verdict.failing),
        useful=reject is None,
    )
