"""Builds a task set: make tasks, pass every one through the gate, write the set whole.

    build("synthetic", out_dir=folder, counts={"train": 2000, "dev": 64, "test": 200}, seed=0)

Every task in a set has scored 1 with gold and 0 with no-op through the production grader. Counts
are exact for `synthetic` and upper bounds for `projects`, where validated bugs are what they are
(`envs/projects/build_projects.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from envs.errors import UserError
from envs.grading.graders import Equipment, make_grader
from envs.projects.build_projects import SHARES, make_project_tasks, read_projects
from envs.projects.lock_file import Project, load_lock
from envs.projects.repair_task import GENERATOR
from envs.records import SPLITS, JsonValue, Split
from envs.sources import synthetic
from envs.sources.long_tasks import LONG_GRAMMAR
from envs.sources.reject_advice import explain_no_task
from envs.tasks.build_report import BuildReport, ShowProgress
from envs.tasks.set_python import write_for
from envs.tasks.store import BuiltTask, Files, Manifest, TaskStore
from envs.tasks.validate import validate


class MakeTasks(Protocol):
    """A task source from elsewhere: `tasks.source: package.module:function`."""

    def __call__(self, num_tasks: int, *, split: Split, seed: int) -> Iterable[BuiltTask]:
        """Return tasks of a split; at most `num_tasks` are taken, so it may go on without end."""
        ...


def build(
    source: str,
    *,
    out_dir: Path,
    counts: Mapping[Split, int],
    seed: int,
    settings: synthetic.SyntheticSettings = synthetic.DEFAULTS,
    lock: Path = Path("configs/projects.lock.json"),
    python: str = "",
    cache_dir: Path = Path(".cache/tightrope"),
    workers: int = 2,
    on_progress: ShowProgress = lambda *_: None,
    make_tasks: MakeTasks | None = None,
    local: tuple[Project, Files] | None = None,
) -> Manifest:
    """Build a task set at `out_dir`, replacing one that is there, and return its manifest.

    Args:
        source: `synthetic`, `projects`, `path`, or any name for what `make_tasks` makes.
        counts: Tasks of each split.
        seed: Draws the tasks; splits do not depend on it.
        settings: Sizes of generated tasks; python: the user's, where `make_tasks` needs one.
        cache_dir: Where downloaded sdists and what is known of bugs in them are kept.
        workers: Sandboxed runs under way at once.
        local: The project of `path` and its tree (`envs/projects/local_folder.py`).

    Raises:
        UserError: A download, the sandbox or `out_dir` fails; no task at all counts.
        InfrastructureError: The sandbox failed several times in a row.
    """
    _refuse_none(counts)
    report = BuildReport()
    make_tasks = _choose_maker(source, make_tasks, settings=settings)
    if make_tasks is not None:
        made = _generate(counts, make_tasks=make_tasks, seed=seed, on_progress=on_progress)
        kept = _validate(made, python, cache_dir, workers, report=report, on_progress=on_progress)
    else:
        kept = make_project_tasks(
            _list_parts(local) or read_projects(load_lock(lock), counts, cache_dir, on_progress),
            counts=counts,
            seed=seed,
            cache_dir=cache_dir,
            workers=workers,
            report=report,
            on_progress=on_progress,
            lengths=settings.length,
        )
    if not kept:
        raise explain_no_task(report, source=source)
    manifest = Manifest(
        source=source,
        seed=seed,
        licence=", ".join(sorted({each.public.provenance.licence for each in kept})),
        rejects=dict(sorted(report.rejects.items())),
        yields={kind: asdict(found) for kind, found in sorted(report.yields.items())},
        settings=describe_set(source, counts=counts, settings=settings, lock=lock, local=local),
        journal=(*_list_left_out(local), *report.journal),
    )
    used = local[0].python if local else python
    return write_for(used, out_dir, tasks=kept, manifest=manifest, cache_dir=cache_dir)


def _list_parts(local: tuple[Project, Files] | None) -> list[tuple[Project, Files]]:
    """Return a user's project and its tree, once for each split that has tasks of it."""
    return [(part, local[1]) for part in local[0].list_parts()] if local else []


def _choose_maker(
    source: str, given: MakeTasks | None, *, settings: synthetic.SyntheticSettings
) -> MakeTasks | None:
    """Return what makes the tasks of a source; None of `projects` and `path`."""
    return partial(synthetic.generate, settings=settings) if source == "synthetic" else given


def _refuse_none(counts: Mapping[Split, int]) -> None:
    if not any(counts.values()):
        remedy = "ask for at least one in tasks.train, tasks.dev or tasks.test"
        raise UserError("no task is asked for", remedy=remedy)


def describe_set(
    source: str,
    *,
    counts: Mapping[Split, int],
    settings: synthetic.SyntheticSettings = synthetic.DEFAULTS,
    lock: Path = Path("configs/projects.lock.json"),
    local: tuple[Project, Files] | None = None,
) -> dict[str, JsonValue]:
    """Return what a set's manifest says of its making: a set that says otherwise is another one."""
    wanted: dict[str, JsonValue] = {"asked": dict(counts)}
    if source == "synthetic":
        return wanted | _describe_generated(settings)
    if source not in ("projects", "path"):
        return wanted
    wanted |= {"generator": GENERATOR, "shares": SHARES}
    if settings.length:
        wanted |= {"length": settings.length}
    if local:
        return wanted | {local[0].name: _describe_local(local[0])}
    return wanted | {each.name: each.model_dump(mode="json") for each in load_lock(lock)}


def _describe_generated(settings: synthetic.SyntheticSettings) -> dict[str, JsonValue]:
    """Return the sizes of generated tasks; of sets without long ones as before there were any."""
    sizes: dict[str, JsonValue] = asdict(settings)
    if settings.length:
        return sizes | {"generator": LONG_GRAMMAR}
    return {name: size for name, size in sizes.items() if name not in ("length", "distractors")}


def _describe_local(project: Project) -> dict[str, JsonValue]:
    """Return a user's project without what another folder, or another hour, would change."""
    described = project.model_dump(mode="json", exclude={"version", "suite_s", "python"})
    reasons = sorted(project.excluded_tests.items())  # the slowest came first
    return described | {
        "excluded_tests": {test: reason.partition(":")[0] for test, reason in reasons}
    }


def _list_left_out(local: tuple[Project, Files] | None) -> list[str]:
    """Return the tests of a user's project that do not count, with reasons that tell times."""
    return [f"{test}: {why}" for test, why in local[0].excluded_tests.items()] if local else []


def _generate(
    counts: Mapping[Split, int],
    *,
    make_tasks: MakeTasks,
    seed: int,
    on_progress: ShowProgress,
) -> list[BuiltTask]:
    made: list[BuiltTask] = []
    for split in SPLITS:
        found = make_tasks(counts[split], split=split, seed=seed)
        for task in islice(found, counts[split]):
            if task.public.split != split or task.hidden.task_id != task.public.id:
                raise UserError(
                    "a task source made a task that does not fit",
                    got=f"{task.public.id} of {task.public.split}, hidden {task.hidden.task_id}",
                    remedy=f"make tasks of the split that is named ({split}), with equal ids",
                )
            if len(made) % 100 == 0:
                on_progress("generating tasks", len(made), sum(counts.values()))
            made.append(task)
    on_progress("generating tasks", len(made), len(made))
    return made


def _validate(
    made: Sequence[BuiltTask],
    python: str,
    cache_dir: Path,
    workers: int,
    *,
    report: BuildReport,
    on_progress: ShowProgress,
) -> list[BuiltTask]:
    kept: list[BuiltTask] = []
    store = TaskStore.of(made)
    equipment = Equipment.find(store, python=python, cache_dir=cache_dir)
    with make_grader(store, cache_dir=cache_dir, equipment=equipment) as grader:
        for done, checked in enumerate(validate(made, grader=grader, workers=workers)):
            on_progress("checking gold and no-op", done, len(made))
            if checked.reject is None:
                kept.append(checked.task)
            else:
                report.drop(checked.task.public.id, checked.reject)
    on_progress("checking gold and no-op", len(made), len(made))
    return kept
