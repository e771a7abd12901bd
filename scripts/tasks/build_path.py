"""`tightrope tasks build --source path`: makes tasks of a project in a folder of this machine.

    python -m venv v && v/bin/pip install -e . pytest
    tightrope tasks build --source path --path . --python v/bin/python

The folder is read and never written to; its suite runs in the sandbox with the packages of that
Python. An experiment takes the tasks with `--tasks.dir FOLDER`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from envs.errors import UserError
from envs.projects.admission import NUM_RUNS
from envs.projects.file_splits import describe_splits, share_out, split_files
from envs.projects.local_folder import open_local
from envs.projects.lock_file import Project
from envs.projects.source_files import FolderContent
from envs.records import SPLITS
from envs.sandbox.interpreter import is_variable
from envs.tasks.set_python import home_cache
from envs.tasks.store import Files
from tightrope_cli.tasks.first_look import describe_folder, name_count
from tightrope_cli.tasks.task_set import CLEAN, EXCLUDE, WORKERS, refuse_existing
from train.config.load import Flag, default_cache, parse_flags
from train.stages.exit_codes import keep_note
from train.stages.progress import Progress

_NUM_SHOWN = 10  # tests that are left out
EXAMPLE = "tightrope tasks build --source path --path . --python v/bin/python"
FLAGS = (
    Flag("--source", "path", choices=("path",)),
    Flag("--path", "the project's folder, read only", kind=Path),
    Flag("--python", "a Python with the project's dependencies and pytest", kind=Path),
    Flag("--out", "folder of the task set [cache/tasks/path-NAME-...]", kind=Path),
    Flag("--count", "most tasks", kind=int, default=200),
    Flag("--split", "where all tasks go, if not by file [train]", choices=SPLITS),
    Flag("--split-by", "train, dev and test of one project: each by files", choices=("file",)),
    Flag("--seed", "draws the tasks", kind=int, default=0),
    EXCLUDE,
    Flag("--env", "variables that its tests see, NAME=VALUE", nargs="*"),
    Flag("--suite-seconds", "CPU seconds that its suite may take", kind=float, default=30, least=1),
    WORKERS,
    CLEAN,
)


def is_meant(argv: list[str]) -> bool:
    """Tell whether a `tasks build` line is for this file."""
    return any(word.partition("=")[0] in ("--source", "--path") for word in argv)


def main(argv: list[str]) -> int:
    """Build one set; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope tasks build --source path",
        description="Make tasks of a project in a folder of this machine.",
        example=EXAMPLE,
        flags=FLAGS,
    )
    _check_flags(flags)
    from envs.sources.build import build

    cache = _cache_outside(flags["path"], out=flags["out"])
    if flags["out"]:
        refuse_existing(flags["out"], clean=flags["clean"])
    project, files = _admit(flags, cache)  # of which nothing is kept before its end
    _print_suite(project)
    out = _choose_folder(flags, project, cache)
    counts = dict.fromkeys(SPLITS, 0) | {project.split: flags["count"]}
    if flags["split_by"]:
        project, counts = split_files(project, files), share_out(flags["count"])
        print(f"splits   {describe_splits(project.file_splits)}", flush=True)
    kept = f"what became of bugs is kept in {cache}: none is tried again"
    with keep_note(kept), Progress("", unit="done") as progress:
        manifest = build(
            "path",
            out_dir=out,
            counts=counts,
            seed=flags["seed"],
            cache_dir=cache,
            workers=flags["workers"],
            on_progress=progress.show,
            local=(project, files),
        )
    common = Counter(manifest.rejects).most_common()
    rejected = ", ".join(f"{count} {reason}" for reason, count in common)
    made = ", ".join(f"{count} {split}" for split, count in manifest.counts.items() if count)
    print(
        f"{out}: {made} tasks of {project.name} "
        f"({project.num_tests} tests, {project.suite_s} CPU seconds); "
        f"rejected: {rejected or 'nothing'}"
    )
    return 0


def describe_form() -> str:
    """Return how this form of `tasks build` is typed, for the help of the other one."""
    rows = "\n".join(f"  {flag.name:<16} {flag.help}" for flag in FLAGS)
    return f"  {EXAMPLE}\n{rows}"


def _check_flags(flags: Mapping[str, Any]) -> None:
    """Refuse a line that asks for nothing, or for two things that exclude each other."""
    if flags["path"] is None:
        raise UserError("--source path needs --path", remedy="name the project's folder")
    least = len(SPLITS) if flags["split_by"] else 1
    if flags["count"] < least:
        remedy = f"ask for {least} or more"
        raise UserError(
            "too few tasks are asked for", got=f"--count {flags['count']}", remedy=remedy
        )
    if flags["split"] and flags["split_by"]:
        remedy = "give --split for one split, or --split-by file for all three"
        raise UserError("--split and --split-by exclude each other", remedy=remedy)


def _admit(flags: Mapping[str, Any], cache: Path) -> tuple[Project, Files]:
    """Return the project and its tree; say what is there, and what its suite is run for."""
    exclude, begun = flags["exclude"] or (), count()

    def say_read(content: FolderContent) -> None:
        name = flags["path"].expanduser().absolute().name
        print("\n".join(describe_folder(name, content, exclude=exclude)), flush=True)

    with Progress("", unit="done") as progress:
        opened = open_local(
            flags["path"],
            python=flags["python"],
            split=flags["split"] or SPLITS[0],
            exclude=exclude,
            environment=parse_environment(flags["env"] or ()),
            suite_s=flags["suite_seconds"],
            cache_dir=cache,
            on_read=say_read,
            on_run=lambda what: progress.show(
                "runs of the suite", min(next(begun), NUM_RUNS), NUM_RUNS, what
            ),
        )
        if next(begun):
            progress.show("runs of the suite", NUM_RUNS, NUM_RUNS)
        return opened


def _choose_folder(flags: Mapping[str, Any], project: Project, cache: Path) -> Path:
    """Return where the set goes; refuse one that is there."""
    drawn = f"{flags['split_by'] or project.split}-{flags['count']}-{flags['seed']}"
    default = cache / "tasks" / f"path-{project.name}-{project.version}-{drawn}"
    out: Path = flags["out"] or default
    refuse_existing(out, clean=flags["clean"])
    return out


def _print_suite(project: Project) -> None:
    """Print which tests count, which do not, with the reasons, and which files are mutated."""
    left_out = project.excluded_tests
    kinds = Counter(reason.partition(":")[0] for reason in left_out.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    print(
        f"suite    {project.num_tests} tests in {project.suite_s} CPU seconds; left out: "
        f"{listed or 'none'}; mutated: {name_count(len(project.mutated), 'file')}",
        flush=True,
    )
    for test, reason in list(left_out.items())[:_NUM_SHOWN]:
        print(f"  left out {test}: {reason}", flush=True)
    if len(left_out) > _NUM_SHOWN:
        print(f"  left out {len(left_out) - _NUM_SHOWN} more", flush=True)


def parse_environment(pairs: Sequence[str]) -> dict[str, str]:
    """Return the variables that `--env NAME=VALUE ...` names; raise UserError for other forms."""
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or not is_variable(name):
            remedy = (
                "such as --env MODE=fast; those of Python, of the loader and of the sandbox (HOME, "
            )
            remedy += "PATH, ...) are not for suites"
            raise UserError("--env takes NAME=VALUE", got=pair, remedy=remedy)
    return dict(pair.split("=", 1) for pair in pairs)


def _cache_outside(path: Path, *, out: Path | None) -> Path:
    """Return the cache, or the one of the user's home if the project's folder holds it."""
    folder, cache = path.expanduser().resolve(), default_cache()
    if cache.resolve().is_relative_to(folder):
        cache = home_cache()
    written = out or cache
    if written.expanduser().resolve().is_relative_to(folder):
        remedy = "name folders elsewhere with --out and TIGHTROPE_CACHE"
        raise UserError("a project is never written to", got=str(written), remedy=remedy)
    return cache
