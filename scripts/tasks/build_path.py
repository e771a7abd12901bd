"""`tightrope tasks build --source path`: makes tasks of a project in a folder of this machine.

    python -m venv v && v/bin/pip install -e . pytest
    tightrope tasks build --source path --path . --python v/bin/python

The folder is read and never written to; its suite runs in the sandbox with the packages of that
Python. An experiment takes the tasks with `--tasks.dir FOLDER`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from envs.errors import UserError
from envs.projects.local_folder import open_local
from envs.records import SPLITS
from envs.sandbox.interpreter import is_variable
from envs.sources.build import build
from tightrope_cli.tasks.task_set import (
    CLEAN,
    EXCLUDE,
    SPLIT,
    WORKERS,
    refuse_existing,
)
from train.config.load import Flag, default_cache, parse_flags
from train.stages.progress import Progress

_NUM_SHOWN = 10  # tests that are left out


def is_meant(argv: list[str]) -> bool:
    """Tell whether a `tasks build` line is for this file."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    return "--source=path" in argv or ("--source", "path") in pairs


def main(argv: list[str]) -> int:
    """Build one set; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope tasks build --source path",
        description="Make tasks of a project in a folder of this machine.",
        example="tightrope tasks build --source path --path . --python v/bin/python",
        flags=[
            Flag("--source", "path", choices=("path",)),
            Flag("--path", "the project's folder, read only", kind=Path),
            Flag("--python", "a Python with the project's dependencies and pytest", kind=Path),
            Flag("--out", "folder of the task set [cache/tasks/path-NAME-...]", kind=Path),
            Flag("--count", "most tasks", kind=int, default=200),
            SPLIT,
            Flag("--seed", "draws the tasks", kind=int, default=0),
            EXCLUDE,
            Flag("--env", "variables that its tests see, NAME=VALUE", nargs="*"),
            Flag("--suite-seconds", "CPU seconds that its suite may take", kind=float, default=30),
            WORKERS,
            CLEAN,
        ],
    )
    if flags["path"] is None:
        raise UserError("--source path needs --path", remedy="name the project's folder")

    cache = _cache_outside(flags["path"], out=flags["out"])
    with Progress("", unit="done") as progress:
        progress.show("runs of the suite as it is", 0, 1)
        project, files = open_local(
            flags["path"],
            python=flags["python"],
            split=flags["split"],
            exclude=flags["exclude"] or (),
            environment=parse_environment(flags["env"] or ()),
            suite_s=flags["suite_seconds"],
            cache_dir=cache,
        )
        drawn = f"{project.split}-{flags['count']}-{flags['seed']}"
        out = flags["out"] or cache / "tasks" / f"path-{project.name}-{project.version}-{drawn}"
        refuse_existing(out, clean=flags["clean"])
        counts = dict.fromkeys(SPLITS, 0) | {project.split: flags["count"]}
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
    _print_left_out(project.excluded_tests)
    rejected = ", ".join(f"{n} {reason}" for reason, n in Counter(manifest.rejects).most_common(3))
    print(
        f"{out}: {sum(manifest.counts.values())} {project.split} tasks of {project.name} "
        f"({project.num_tests} tests, {project.suite_s} CPU seconds); dropped: {rejected or 'none'}"
    )
    return 0


def _print_left_out(tests: Mapping[str, str]) -> None:
    for test, reason in list(tests.items())[:_NUM_SHOWN]:
        print(f"  left out {test}: {reason}")
    if len(tests) > _NUM_SHOWN:
        print(f"  left out {len(tests) - _NUM_SHOWN} more")


def parse_environment(pairs: Sequence[str]) -> dict[str, str]:
    """Return the variables that `--env NAME=VALUE ...` names; raise UserError for other forms."""
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or not is_variable(name):
            remedy = "such as --env MODE=fast; those of Python and of the loader are not for suites"
            raise UserError("--env takes NAME=VALUE", got=pair, remedy=remedy)
    return dict(pair.split("=", 1) for pair in pairs)


def _cache_outside(path: Path, *, out: Path | None) -> Path:
    """Return the cache, or the one of the user's home if the project's folder holds it."""
    folder, cache = path.expanduser().resolve(), default_cache()
    if cache.resolve().is_relative_to(folder):
        cache = Path.home() / ".cache" / "tightrope"
    written = out or cache
    if written.expanduser().resolve().is_relative_to(folder):
        remedy = "name folders elsewhere with --out and TIGHTROPE_CACHE"
        raise UserError("a project is never written to", got=str(written), remedy=remedy)
    return cache
