"""`tightrope tasks import FILE --repo PATH --out DIR`: SWE-smith-style instances become a task set.

    tightrope tasks import instances.json --repo ~/src/toolz --out tasks/toolz

The repository is the folder without any bug, checked out at the instances' `base_commit`; it is
only read. What is rejected is printed with its reason and counted in the set's manifest.
"""

from collections import Counter
from pathlib import Path

from envs.errors import UserError
from envs.projects.swe_smith import (
    Instance,
    import_instances,
    read_instances,
    read_repository,
)
from envs.records import Split
from envs.tasks.store import BuiltTask, Files, Manifest, hash_tree, write_built
from tightrope_cli.tasks.task_set import CLEAN, SPLIT, WORKERS, refuse_existing
from train.config.load import Flag, parse_flags
from train.stages.progress import Progress


def main(argv: list[str]) -> int:
    """Import a file; returns 0, or 1 if nothing in it became a task."""
    flags = parse_flags(
        argv,
        prog="tightrope tasks import",
        description="Make a task set of SWE-smith-style instances of one local repository.",
        example="tightrope tasks import instances.json --repo ~/src/toolz --out tasks/toolz",
        flags=[
            Flag("file", "JSON or JSONL of instances", kind=Path),
            Flag("--repo", "the repository's folder, without a bug", kind=Path),
            Flag("--out", "folder of the task set", kind=Path),
            SPLIT,
            WORKERS,
            CLEAN,
        ],
    )
    for name in ("repo", "out"):
        if flags[name] is None:
            raise UserError(f"tightrope tasks import needs --{name}", remedy="name a folder")
    out: Path = flags["out"]
    refuse_existing(out, clean=flags["clean"])

    instances, files = read_instances(flags["file"]), read_repository(flags["repo"])
    kept, rejects = _check(instances, files, split=flags["split"], workers=flags["workers"])
    for name, reject in rejects:
        print(f"{name}: {reject}")
    if not kept:
        print(f"none of {len(instances)} instances became a task; nothing is written")
        return 1
    manifest = Manifest(
        source="import",
        seed=0,
        licence="unknown",
        rejects=dict(sorted(Counter(why.partition(" (")[0] for _, why in rejects).items())),
        settings={"repo": instances[0].repo, "tree": hash_tree(files)},
    )
    write_built(out, tasks=kept, manifest=manifest)
    print(f"{out}: {len(kept)} {flags['split']} tasks of {len(instances)} instances")
    return 0


def _check(
    instances: list[Instance], files: Files, *, split: Split, workers: int
) -> tuple[list[BuiltTask], list[tuple[str, str]]]:
    """Return the tasks that pass every check, and which instances do not, with the reason."""
    kept, rejects = [], list[tuple[str, str]]()
    with Progress("instances", total=len(instances), unit="tried") as progress:
        for found in import_instances(instances, files=files, split=split, workers=workers):
            progress.advance()
            if found.task is None:
                rejects.append((found.instance_id, found.reject))
            else:
                kept.append(found.task)
    return kept, rejects
