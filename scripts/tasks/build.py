"""`tightrope tasks build`: makes the task set of an experiment, or of a folder of this machine.

    tightrope tasks build --config configs/tiny.yaml
    tightrope tasks build --source path --path DIR [--python EXE]

A set that is already there is kept; `--clean` builds it again. Downloads go to `run.cache`, which
$TIGHTROPE_CACHE moves. The second form is `build_path.py`.
"""

import json
from contextlib import nullcontext
from typing import Any

from envs.errors import UserError
from envs.records import Split
from envs.sources.synthetic import SyntheticSettings
from tightrope_cli.tasks import build_path
from tightrope_cli.tasks.task_set import LOCK, WORKERS, open_set, print_counts
from train.config.load import Command, parse_command
from train.config.settings import TaskSettings
from train.config.user_functions import is_function, load_function
from train.stages.exit_codes import keep_note
from train.stages.progress import Progress
from train.stages.run_dir import cache_dir, tasks_dir


def main(argv: list[str]) -> int:
    """Build the set unless it is there; returns the exit code."""
    if build_path.is_meant(argv):
        return build_path.main(argv)
    command = parse_command(
        argv,
        prog="tightrope tasks build",
        description="Make the tasks of an experiment and check each with the real grader.\n\n"
        f"Those of a project in a folder, without --config:\n{build_path.describe_form()}",
        example="tightrope tasks build --config configs/tiny.yaml",
        flags=[WORKERS],
        common=("--dry-run", "--clean"),
    )

    from envs.sources.build import build

    tasks, folder = command.settings.tasks, tasks_dir(command.settings)
    counts: dict[Split, int] = {"train": tasks.train, "dev": tasks.dev, "test": tasks.test}
    described = {"counts": counts, "settings": _synthetic_settings(tasks), "lock": LOCK}
    if command.dry_run:
        wanted = ", ".join(f"{count} {split}" for split, count in counts.items())
        print(f"would build {wanted} tasks ({tasks.source}, seed {tasks.seed}) in {folder}")
        return 0
    if (folder / "manifest.json").is_file() and not command.clean:
        _check_same(command, described)
        print_counts(folder, open_set(command), note="already built")
        return 0
    cache = cache_dir(command.settings)
    kept = f"what became of bugs of projects is kept in {cache}: none is tried again"
    with (
        keep_note(kept) if tasks.source == "projects" else nullcontext(),
        Progress("", unit="done") as progress,
    ):
        build(
            tasks.source,
            out_dir=folder,
            seed=tasks.seed,
            python=tasks.python or "",
            cache_dir=cache,
            workers=command.flags["workers"],
            on_progress=progress.show,
            make_tasks=load_function(tasks.source) if is_function(tasks.source) else None,
            **described,
        )
    print_counts(folder, open_set(command), note="built")
    return 0


def _synthetic_settings(tasks: TaskSettings) -> SyntheticSettings:
    """Return the sizes of generated tasks that an experiment asks for."""
    modules, functions = tasks.max_size
    return SyntheticSettings(
        num_modules=(1, modules),
        num_functions=(min(2, functions), functions),
        share_two_sites=tasks.two_site_share,
        length=tuple(tasks.length),
        distractors=tasks.distractors,
    )


def _check_same(command: Command, described: dict[str, Any]) -> None:
    """Raise UserError if the set that is there is not the one that the experiment asks for."""
    from envs.sources.build import describe_set

    tasks, manifest = command.settings.tasks, open_set(command).manifest
    wanted = json.loads(json.dumps(describe_set(tasks.source, **described)))
    found = manifest and (manifest.source, manifest.seed, manifest.settings)
    if found != (tasks.source, tasks.seed, wanted):
        raise UserError(
            "another task set is in this folder",
            got=str(tasks_dir(command.settings)),
            remedy="--clean builds it again, or name another folder in tasks.dir",
        )
