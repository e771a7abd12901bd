"""Builds a task set: make tasks, pass every one through the gate, write the set whole.

    build("synthetic", out_dir=folder, counts={"train": 2000, "dev": 64, "test": 200}, seed=0)

Every task in a set has scored 1 with gold and 0 with no-op through the production grader. Counts
are exact for `synthetic` and upper bounds for `projects`, where validated bugs are what they are:
the projects of a split share its count evenly, and what one cannot fill goes to those after it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from envs.errors import UserError
from envs.forkserver import ForkServer
from envs.grading import make_grader
from envs.records import JsonValue, Split
from envs.tasks import mutants, synthetic
from envs.tasks.projects import Project, fetch, green_tests, load_lock, read_sdist
from envs.tasks.store import BuiltTask, Files, Manifest, TaskStore, write_built
from envs.tasks.validate import validate

Report = Callable[[str, int, int], None]  # what is being done, how many are done, of how many

BATCH = 16  # candidates probed before the count is looked at again; independent of `workers`


class MakeTasks(Protocol):
    """A task source from elsewhere: `tasks.source: package.module:function`."""

    def __call__(self, num_tasks: int, *, split: Split, seed: int) -> Iterable[BuiltTask]:
        """Return tasks of a split; at most `num_tasks` are taken, so it may go on without end."""
        ...


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass
class Tally:
    """What was dropped: reasons with counts, and a journal of what was dropped for its time."""

    rejects: Counter[str] = field(default_factory=Counter)
    journal: list[str] = field(default_factory=list)

    def drop(self, probed: mutants.Probed) -> None:
        """Count a mutant that is of no use."""
        assert probed.reject is not None
        self.rejects[probed.reject] += 1
        if probed.reject == mutants.TOO_LONG:
            bug = probed.candidate.mutation
            self.journal.append(f"{bug.path}:{bug.line} {bug.operator}: {probed.reject}")


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
        cache_dir: Where downloaded sdists are kept.
        workers: Sandboxed runs under way at once.

    Raises:
        UserError: A download, the sandbox or `out_dir` fails; no task at all counts.
        InfrastructureError: The sandbox broke down.
    """
    tally = Tally()
    asked = described(source, counts=counts, settings=settings, lock=lock)
    if source == "synthetic":
        make_tasks = partial(synthetic.generate, settings=settings)
    if make_tasks is not None:
        made = _generated(counts, make_tasks=make_tasks, seed=seed, report=report)
        licences = {task.public.provenance.licence for task in made}
    else:
        trees = [
            (project, read_sdist(project, sdist=fetch(project, cache_dir=cache_dir)))
            for project in load_lock(lock)
        ]
        licences = {project.licence for project, _ in trees}
        made = _mutated(
            trees, counts=counts, seed=seed, workers=workers, tally=tally, report=report
        )
    kept = _validated(made, workers=workers, tally=tally, report=report)
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
    trees: Sequence[tuple[Project, Files]],
    *,
    counts: Mapping[Split, int],
    seed: int,
    workers: int,
    tally: Tally,
    report: Report,
) -> list[BuiltTask]:
    """Return the tasks of all projects, before the last gate."""
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
    workers: int,
    tally: Tally,
    report: Report,
) -> list[BuiltTask]:
    """Return the tasks of a project with their statements, before the last gate.

    Args:
        files: Its whole tree, tests included.
        count: Most tasks.
        repeats: Functions to leave alone.
        tally: Counts what was dropped.
    """
    report(f"five runs of {project.name}'s suite", 0, 1)
    green = green_tests(files, excluded=project.excluded_tests)
    waiting = mutants.candidates(project, files=files, seed=seed, repeats=repeats)
    total, useful = len(waiting), list[mutants.Probed]()
    with ForkServer(preload="pytest") as server:
        while waiting and len(useful) < count:
            report(f"mutants of {project.name}", total - len(waiting), total)
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            for probed in mutants.probe(
                batch, server=server, files=files, green=green, workers=workers
            ):
                if probed.reject is None:
                    useful.append(probed)
                else:
                    tally.drop(probed)
    report(f"mutants of {project.name}", total, total)
    tasks = [
        mutants.assemble(probed, project=project, files=files, green=green, seed=seed)
        for probed in useful[:count]
    ]
    with make_grader(TaskStore.of(tasks)) as grader, ThreadPoolExecutor(workers) as pool:
        told = list(pool.map(lambda task: mutants.describe(task, grader=grader), tasks))
    tally.rejects["no visible test fails"] += sum(not task.public.statement for task in told)
    return [task for task in told if task.public.statement]


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
                tally.rejects[checked.reject] += 1
    report("checking gold and no-op", len(made), len(made))
    if not kept:
        raise UserError(
            "no task passed its checks",
            got=str(dict(tally.rejects)),
            remedy="ask for more tasks, or mutate other files",
        )
    return kept
