"""Builds a task set: make tasks, pass every one through the gate, write the set whole.

    build("synthetic", out_dir=folder, counts={"train": 2000, "dev": 64, "test": 200}, seed=0)

Every task in a set has scored 1 with gold and 0 with no-op through the production grader. Counts
are exact for `synthetic` and upper bounds for `projects`, where validated bugs are what they are:
the projects of a split share its count evenly, and what one cannot fill goes to those after it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from envs.errors import InfrastructureError, UserError
from envs.forkserver import ForkServer
from envs.grading import make_grader
from envs.records import JsonValue, Split
from envs.tasks import mutants, synthetic
from envs.tasks.baseline import baseline
from envs.tasks.probe import TOO_LONG, probe
from envs.tasks.projects import Project, fetch, load_lock, read_sdist
from envs.tasks.store import BuiltTask, Files, Manifest, TaskStore, write_built
from envs.tasks.streak import NO_SANDBOX, Streak
from envs.tasks.validate import validate
from envs.tasks.verdicts import Verdicts

Report = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


class MakeTasks(Protocol):
    """A task source from elsewhere: `tasks.source: package.module:function`."""

    def __call__(self, num_tasks: int, *, split: Split, seed: int) -> Iterable[BuiltTask]:
        """Return tasks of a split; at most `num_tasks` are taken, so it may go on without end."""
        ...


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass
class Tally:
    """What was dropped: reasons with counts, and a journal of what the machine may be behind."""

    rejects: Counter[str] = field(default_factory=Counter)
    journal: list[str] = field(default_factory=list)

    def drop(self, what: str, reject: str) -> None:
        """Count what is of no use; also name it, if another machine might find it useful."""
        self.rejects[reject] += 1
        if reject in (TOO_LONG, NO_SANDBOX):
            self.journal.append(f"{what}: {reject}")

    def drop_mutant(self, probed: mutants.Probed) -> None:
        """Count a mutant that is of no use."""
        assert probed.reject is not None
        bug = probed.candidate.mutation
        self.drop(f"{bug.path}:{bug.line} {bug.operator}", probed.reject)


def build(
    source: str,
    *,
    out_dir: Path,
    counts: Mapping[Split, int],
    seed: int,
    settings: synthetic.SyntheticSettings = synthetic.DEFAULTS,
    lock: Path = Path("configs/projects.lock.json"),
    cache_dir: Path = Path(".cache/tightrope"),
    workers: int = 2,
    report: Report = silent,
    make_tasks: MakeTasks | None = None,
) -> Manifest:
    """Build a task set at `out_dir`, replacing one that is there, and return its manifest.

    Args:
        source: `synthetic`, `projects`, or any name for what `make_tasks` makes.
        counts: Tasks of each split.
        seed: Draws the tasks; splits do not depend on it.
        settings: Sizes of generated tasks.
        cache_dir: Where downloaded sdists and what is known of bugs in them are kept.
        workers: Sandboxed runs under way at once.

    Raises:
        UserError: A download, the sandbox or `out_dir` fails; no task at all counts.
        InfrastructureError: The sandbox failed several times in a row.
    """
    tally = Tally()
    asked = described(source, counts=counts, settings=settings, lock=lock)
    if source == "synthetic":
        make_tasks = partial(synthetic.generate, settings=settings)
    if make_tasks is not None:
        made = _generated(counts, make_tasks=make_tasks, seed=seed, report=report)
    else:
        made = _mutated(
            load_lock(lock),
            counts=counts,
            seed=seed,
            cache_dir=cache_dir,
            workers=workers,
            tally=tally,
            report=report,
        )
    kept = _validated(made, workers=workers, tally=tally, report=report)
    licences = {task.public.provenance.licence for task in kept}
    manifest = Manifest(
        source=source,
        seed=seed,
        licence=", ".join(sorted(licences)),
        rejects=dict(sorted(tally.rejects.items())),
        settings=asked,
        journal=tuple(tally.journal),
    )
    return write_built(out_dir, tasks=kept, manifest=manifest)


def described(
    source: str,
    *,
    counts: Mapping[Split, int],
    settings: synthetic.SyntheticSettings = synthetic.DEFAULTS,
    lock: Path = Path("configs/projects.lock.json"),
) -> dict[str, JsonValue]:
    """Return what a set's manifest says of its making: a set that says otherwise is another one."""
    asked: dict[str, JsonValue] = {"asked": dict(counts)}
    if source == "synthetic":
        return asked | asdict(settings)
    if source != "projects":
        return asked
    pinned = {project.name: project.model_dump(mode="json") for project in load_lock(lock)}
    return asked | {"generator": mutants.GENERATOR} | pinned


def _mutated(
    projects: Sequence[Project],
    *,
    counts: Mapping[Split, int],
    seed: int,
    cache_dir: Path,
    workers: int,
    tally: Tally,
    report: Report,
) -> list[BuiltTask]:
    """Return the tasks of all projects, before the last gate."""
    trees = [
        (project, read_sdist(project, sdist=fetch(project, cache_dir=cache_dir)))
        for project in projects
    ]
    repeats = mutants.repeated_functions(trees)
    tally.rejects["function like one of an earlier split"] += len(repeats)
    left = dict(counts)
    made: list[BuiltTask] = []
    for at, (project, files) in enumerate(trees):
        sharing = [other for other, _ in trees[at:] if other.split == project.split]
        tasks = mutated(
            project,
            files=files,
            count=-(-left[project.split] // len(sharing)),
            seed=seed,
            repeats=repeats,
            cache_dir=cache_dir,
            workers=workers,
            tally=tally,
            report=report,
        )
        left[project.split] -= len(tasks)
        made += tasks
    return made


def mutated(
    project: Project,
    *,
    files: Files,
    count: int,
    seed: int,
    repeats: Collection[mutants.Function],
    cache_dir: Path,
    workers: int,
    tally: Tally,
    report: Report,
) -> list[BuiltTask]:
    """Return the tasks of a project with their statements, before the last gate.

    Args:
        files: Its whole tree, tests included.
        count: Most tasks.
        repeats: Functions to leave alone.
        cache_dir: Where it is kept what the suite said of each bug, for a build that is stopped.
        tally: Counts what was dropped.
    """
    found = mutants.candidates(project, files=files, seed=seed, repeats=repeats)
    useful: list[mutants.Probed] = []
    report(f"runs of {project.name}'s suite as it is", 0, 1)
    with ForkServer(preload="pytest") as server:
        suite = baseline(project, files=files, server=server, cache_dir=cache_dir)
        kept = cache_dir / "mutants" / f"{project.name}-{project.version}.jsonl"
        verdicts = Verdicts(kept, files=files, green=suite.green)
        tried = probe(
            found, server=server, files=files, suite=suite, verdicts=verdicts, workers=workers
        )
        with closing(tried):
            for done, probed in enumerate(tried if count > 0 else ()):
                report(f"mutants of {project.name}", done, len(found))
                if probed.reject is None:
                    useful.append(probed)
                else:
                    tally.drop_mutant(probed)
                if len(useful) == count:
                    break
    report(f"mutants of {project.name}", len(found), len(found))
    tasks = [
        mutants.assemble(probed, project=project, files=files, green=suite.green, seed=seed)
        for probed in useful
    ]
    with make_grader(TaskStore.of(tasks)) as grader, ThreadPoolExecutor(workers) as pool:
        working = [pool.submit(mutants.describe, task, grader=grader) for task in tasks]
        told = _told(working, tasks=tasks, tally=tally)
    tally.rejects["no visible test shows it"] += sum(not task.public.statement for task in told)
    return [task for task in told if task.public.statement]


def _told(
    working: Sequence[Future[BuiltTask]], *, tasks: Sequence[BuiltTask], tally: Tally
) -> list[BuiltTask]:
    """Return the tasks with their statements, but for those on which the sandbox failed."""
    streak, told = Streak(), list[BuiltTask]()
    for task, work in zip(tasks, working, strict=True):
        try:
            told.append(work.result())
            streak.worked()
        except InfrastructureError as error:
            streak.failed(error)
            tally.drop(task.public.id, NO_SANDBOX)
    return told


def _generated(
    counts: Mapping[Split, int],
    *,
    make_tasks: MakeTasks,
    seed: int,
    report: Report,
) -> list[BuiltTask]:
    made: list[BuiltTask] = []
    for split in mutants.SPLITS:
        found = make_tasks(counts[split], split=split, seed=seed)
        for task in islice(found, counts[split]):
            if task.public.split != split or task.hidden.task_id != task.public.id:
                raise UserError(
                    "a task source made a task that does not fit",
                    got=f"{task.public.id} of {task.public.split}, hidden {task.hidden.task_id}",
                    remedy=f"make tasks of the split that is asked for ({split}), with equal ids",
                )
            if len(made) % 100 == 0:
                report("generating tasks", len(made), sum(counts.values()))
            made.append(task)
    report("generating tasks", len(made), len(made))
    return made


def _validated(
    made: Sequence[BuiltTask], *, workers: int, tally: Tally, report: Report
) -> list[BuiltTask]:
    kept: list[BuiltTask] = []
    with make_grader(TaskStore.of(made)) as grader:
        for done, checked in enumerate(validate(made, grader=grader, workers=workers)):
            report("checking gold and no-op", done, len(made))
            if checked.reject is None:
                kept.append(checked.task)
            else:
                tally.drop(checked.task.public.id, checked.reject)
    report("checking gold and no-op", len(made), len(made))
    if not kept:
        raise UserError(
            "no task passed its checks",
            got=str(dict(tally.rejects)),
            remedy="ask for more tasks, or mutate other files",
        )
    return kept
