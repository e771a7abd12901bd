"""`tightrope tasks build --source path`: makes tasks of a project in a folder of this machine.

    python -m venv v && v/bin/pip install -e . pytest
    tightrope tasks build --source path --path . --python v/bin/python

The folder is read and never written to; its suite runs in the sandbox with the packages of that
Python. An experiment takes the tasks with `--tasks.dir FOLDER`.
"""

from collections import Counter
from pathlib import Path

from envs.errors import UserError
from envs.records import SPLITS
from tightrope_cli.stages import Stages
from train.load import Flag, default_cache, parse_flags


def is_asked_for(argv: list[str]) -> bool:
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
            Flag("--out", "folder of the task set [cache/tasks/path-NAME-HASH]", kind=Path),
            Flag("--count", "most tasks", kind=int, default=200),
            Flag("--split", "where they go", default="train", choices=SPLITS),
            Flag("--seed", "draws the tasks", kind=int, default=0),
            Flag("--exclude", "test files, functions or ids that shall not count", nargs="*"),
            Flag("--exclude-red", "nor those that fail here, if one in ten at most", kind=bool),
            Flag("--workers", "sandboxed runs under way at once", kind=int, default=2),
        ],
    )
    if flags["path"] is None:
        raise UserError("--source path needs --path", remedy="name the project's folder")
    from envs.tasks.admission import Exclusions
    from envs.tasks.build import build
    from envs.tasks.local import open_local

    cache = default_cache()
    with Stages() as stages:
        stages.report("runs of the suite as it is", 0, 1)
        project, files = open_local(
            flags["path"],
            python=flags["python"],
            split=flags["split"],
            exclusions=Exclusions(tuple(flags["exclude"] or ()), red=flags["exclude_red"]),
            cache_dir=cache,
        )
        out = flags["out"] or cache / "tasks" / f"path-{project.name}-{project.version}"
        counts = dict.fromkeys(SPLITS, 0) | {project.split: flags["count"]}
        manifest = build(
            "path",
            out_dir=out,
            counts=counts,
            seed=flags["seed"],
            cache_dir=cache,
            workers=flags["workers"],
            report=stages.report,
            local=(project, files),
        )
    rejected = ", ".join(f"{n} {reason}" for reason, n in Counter(manifest.rejects).most_common(3))
    print(
        f"{out}: {sum(manifest.counts.values())} {project.split} tasks of {project.name} "
        f"({project.num_tests} tests, {project.suite_s} CPU seconds); dropped: {rejected or 'none'}"
    )
    return 0
