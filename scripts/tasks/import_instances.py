"""`tightrope tasks import FILE --out DIR`: instances of a benchmark become a task set.

    tightrope tasks import instances.jsonl --repo ~/src/toolz --out tasks/toolz
    tightrope tasks import humanevalpack.jsonl --out tasks/humanevalpack

The repository is only read. What is rejected is printed with its reason and counted in the set's
manifest.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from envs.errors import UserError
from envs.importers.instance import Instance
from envs.importers.instance_file import FORMATS, read_instances
from envs.importers.repository import Repository, open_repository, without_repository
from envs.plain_text import visible
from envs.tasks.set_python import write_for
from envs.tasks.store import BuiltTask, Manifest, hash_tree
from tightrope_cli.tasks.build_path import parse_environment
from tightrope_cli.tasks.task_set import CLEAN, EXCLUDE, SPLIT, WORKERS, refuse_existing
from train.config.load import Flag, default_cache, parse_flags
from train.stages.progress import Progress


def main(argv: list[str]) -> int:
    """Import a file; returns 0, or 1 if nothing in it became a task."""
    flags = parse_flags(
        argv,
        prog="tightrope tasks import",
        description="Make a task set of the instances of a benchmark.",
        example="tightrope tasks import instances.json --repo ~/src/toolz --out tasks/toolz",
        flags=[
            Flag("file", "JSON or JSONL of instances", kind=Path),
            Flag("--repo", "the repository's folder, read only; programs need none", kind=Path),
            Flag("--out", "folder of the task set", kind=Path),
            Flag("--format", "what the instances are, if their fields do not say", choices=FORMATS),
            Flag("--python", "a Python with the project's dependencies and pytest", kind=Path),
            Flag("--env", "variables that its tests see, NAME=VALUE", nargs="*"),
            EXCLUDE,
            SPLIT,
            WORKERS,
            CLEAN,
        ],
    )
    out: Path | None = flags["out"]
    if out is None:
        raise UserError("tightrope tasks import needs --out", remedy="name a folder")
    refuse_existing(out, clean=flags["clean"])
    instances = read_instances(flags["file"], form=flags["format"])
    _refuse_repository(instances, flags["repo"], exclude=flags["exclude"] or ())
    environment = parse_environment(flags["env"] or ())
    setting = {"python": flags["python"], "split": flags["split"], "environment": environment}
    cache = default_cache()
    if flags["repo"] is None:
        repository = without_repository(**setting, cache_dir=cache)
    else:
        repository = open_repository(
            flags["repo"], exclude=flags["exclude"] or (), **setting, cache_dir=cache
        )
    kept, rejects = _check(instances, repository, workers=flags["workers"])
    for name, reject in rejects:
        print(visible(f"{name}: {reject}"))
    if not kept:
        print(f"none of {len(instances)} instances became a task; nothing is written")
        return 1
    manifest = Manifest(
        source="import",
        seed=0,
        licence=repository.project.licence,
        rejects=dict(sorted(Counter(why.partition(" (")[0] for _, why in rejects).items())),
        settings={"repo": instances[0].project, "tree": hash_tree(repository.files)},
    )
    write_for(repository.project.python, out, tasks=kept, manifest=manifest, cache_dir=cache)
    print(f"{out}: {len(kept)} {flags['split']} tasks of {len(instances)} instances")
    return 0


def _refuse_repository(
    instances: Sequence[Instance], repo: Path | None, *, exclude: Sequence[str]
) -> None:
    """Raise UserError if a repository is needed and not named, or named for programs of none."""
    if any(each.needs_repository for each in instances):
        if repo is None:
            raise UserError(
                "these instances need --repo",
                got=f"instances of {instances[0].project}",
                remedy="name the folder of the repository, checked out at their commit",
            )
    elif repo is not None or exclude:
        raise UserError(
            "these programs are of no repository",
            got=str(repo) if repo else ", ".join(exclude),
            remedy="leave --repo and --exclude out",
        )


def _check(
    instances: list[Instance], repository: Repository, *, workers: int
) -> tuple[list[BuiltTask], list[tuple[str, str]]]:
    """Return the tasks that pass every check, and which instances do not, with the reason."""
    from envs.importers.check_instance import import_instances

    kept, rejects = [], list[tuple[str, str]]()
    with Progress("instances", total=len(instances), unit="tried") as progress:
        for found in import_instances(instances, repository, workers=workers):
            progress.advance()
            if found.task is None:
                rejects.append((found.name, found.reject))
            else:
                kept.append(found.task)
    return kept, rejects
