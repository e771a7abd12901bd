"""A stage is begun, resumed or refused: compared with what its folder was made with.

    tasks = require(settings, "tasks", experiment=command.experiment)
    stage = open_stage(settings, "demos", resume=command.resume, inputs=[tasks])

A folder knows the settings (config.yaml) and the stages (inputs.json) that it was begun with. Other
settings are named when it goes on; other inputs are refused, and so are other settings that a
finished stage holds in its files.
"""

import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from envs.errors import UserError
from envs.files import to_json, write_whole
from envs.records import SPLITS
from envs.tasks.store import Manifest
from train.config.settings import Settings
from train.stages.run_dir import (
    COMMANDS,
    NOT_IN_A_SET,
    Stage,
    StageDir,
    dump_settings,
    stage_dir,
)
from train.stages.stage_log import say

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy")

_LORA = ("model.lora_rank", "model.lora_alpha", "model.lora_targets")
BAKED: dict[Stage, tuple[str, ...]] = {
    "demos": ("model.base", "model.chat_template", "prompt.template_args", "context.strategy"),
    "sft": ("model.base", "model.tiny", *_LORA),
    "grpo": ("model.base", "model.tiny", *_LORA),
}
"""Settings that a finished stage holds in its files, so that another value would change nothing."""


def open_stage(
    settings: Settings,
    stage: Stage,
    *,
    resume: bool = False,
    clean: bool = False,
    reopen: bool = False,
    is_main: bool = True,
    inputs: Sequence[StageDir] = (),
    dry_run: bool = False,
) -> StageDir:
    """Create the stage's directory, or take up an old one; record settings and environment.

    Args:
        resume: Go on with what is there.
        clean: Delete what is there.
        reopen: Something is to be added, should it be finished.
        is_main: The other processes of a run touch nothing.
        inputs: The finished stages that it reads.
        dry_run: Refuse what would be refused, and write nothing.

    Raises:
        UserError: It holds something and neither `resume` nor `clean` was given; both were; it was
            begun with other inputs; or `clean` would delete something that no stage wrote.
    """
    if resume and clean:
        raise UserError("--resume and --clean contradict each other", remedy="give one of them")
    found = stage_dir(settings, stage)
    if not is_main:
        return StageDir(found.path, stage, is_main=False)
    _check_old(settings, found, resume=resume, clean=clean)
    if any(each.stage == "tasks" for each in inputs) and (unused := list_unused(settings)):
        say(f"tasks.dir names a set that was made otherwise; of no effect: {', '.join(unused)}")
    if dry_run:
        return found
    if clean and found.path.exists():
        _delete(found)
    if reopen and found.is_done():
        found.done.unlink()
    changes = config_changes(found, settings)
    if found.is_done() or changes:
        state = "is finished, nothing is made again" if found.is_done() else "goes on"
        since = f"; settings changed since: {', '.join(changes)}" if changes else ""
        say(f"{found.path} {state}{since}")
    if found.is_done():
        return found
    digests = {each.stage: each.digest() for each in inputs}
    found.path.mkdir(parents=True, exist_ok=True)
    write_whole(found.config, dump_settings(settings))
    write_whole(found.path / "inputs.json", to_json(digests, indent=2) + "\n")
    write_whole(found.path / "environment.json", to_json(environment(settings), indent=2) + "\n")
    return found


def list_unused(settings: Settings) -> list[str]:
    """Return the settings of `tasks` that the set in `tasks.dir` was not made with."""
    given = settings.tasks.model_dump(mode="json", exclude_defaults=True)
    if settings.tasks.dir is None or not stage_dir(settings, "tasks").is_done():
        return []
    made = Manifest.read(Path(settings.tasks.dir))
    asked, shape = made.settings.get("asked"), made.settings
    known: dict[str, list[Any]] = {"source": [made.source], "seed": [made.seed]}
    for split in SPLITS:
        wanted = asked.get(split) if isinstance(asked, dict) else None
        known[split] = [made.counts.get(split, 0), wanted]
    if made.source == "synthetic":
        known["two_site_share"] = [shape.get("share_two_sites")]
        ends = [shape.get("num_modules"), shape.get("num_functions")]
        known["max_size"] = [[end[1] for end in ends if isinstance(end, list)]]
        known |= {name: [shape.get(name)] for name in ("length", "distractors")}
    return [
        f"tasks.{name} {value} (it has {known[name][0] if name in known else 'none'})"
        for name, value in given.items()
        if name not in NOT_IN_A_SET and value not in known.get(name, [])
    ]


def _check_old(settings: Settings, found: StageDir, *, resume: bool, clean: bool) -> None:
    """Refuse what is in the stage's directory, if it is in the way."""
    if not found.path.exists() or not any(found.path.iterdir()):
        return
    if clean and not found.config.is_file():
        raise UserError(
            f"{found.path} does not look like a stage directory: no config.yaml",
            remedy="look into it and delete it by hand",
        )
    if not clean and not resume:
        state = "is finished" if found.is_done() else "holds an unfinished run"
        raise UserError(
            f"{found.path} {state}",
            remedy="--resume goes on with it, --clean deletes it and starts again",
        )
    changed = [] if clean else changed_inputs(settings, found)
    if changed:
        raise UserError(
            f"{found.path} was begun with another {' and '.join(changed)}",
            got="made anew since",
            remedy="--clean deletes it and starts again",
        )


def require(settings: Settings, stage: Stage, *, experiment: str) -> StageDir:
    """Return a finished stage.

    Args:
        experiment: The arguments that name the experiment, for the remedy.

    Raises:
        UserError: It is missing, unfinished, made from a stage that was made anew since (a task
            set may be exchanged), or with other settings, see `BAKED`; the remedy is the command
            that makes it.
    """
    found, command = stage_dir(settings, stage), f"{COMMANDS[stage]} {experiment}"
    if not found.is_done():
        is_begun = stage != "tasks" and found.path.exists()
        state, flag = ("unfinished", " --resume") if is_begun else ("missing", "")
        raise UserError(f"{found.path} is {state}", remedy=f"{command}{flag}")
    if changed := [name for name in changed_inputs(settings, found) if name != "tasks"]:
        raise UserError(
            f"{found.path} was made from another {' and '.join(changed)}",
            got="made anew since",
            remedy=f"{command} --clean",
        )
    if other := _baked_changes(found, settings):
        raise UserError(
            f"{found.path} was made with other settings",
            got=", ".join(other),
            remedy=f"set them back, or {command} --clean",
        )
    return found


def _baked_changes(found: StageDir, settings: Settings) -> list[str]:
    names = BAKED.get(found.stage, ())
    goes_on = settings.model.kind != "tiny" and settings.grpo.start_from == "sft"
    if found.stage == "sft" and not goes_on:  # no adapter of its own that another stage reads
        names = tuple(name for name in names if name not in _LORA)
    starts = tuple(f"{name}{end}" for name in names for end in ":.")
    return [change for change in config_changes(found, settings) if change.startswith(starts)]


def changed_inputs(settings: Settings, found: StageDir) -> list[Stage]:
    """Return which stages were made anew, or exchanged, since `found` was begun with them."""
    digests: dict[Stage, str] = found.read_json("inputs.json")
    return [
        name
        for name, digest in digests.items()
        if stage_dir(settings, name).digest() not in (None, digest)
    ]


def config_changes(found: StageDir, settings: Settings) -> list[str]:
    """Return which settings differ from those of a stage, as 'section.field: old -> new'."""
    before = found.read_config()
    return list_changes(before, settings.model_dump(mode="json")) if before else []


def list_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return how two nested records differ, as 'path.to.name: old -> new'."""
    old, new = _flat(before), _flat(after)
    return [
        f"{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in {**new, **old}
        if old.get(name, "absent") != new.get(name, "absent")
    ]


def environment(settings: Settings) -> dict[str, Any]:
    """Return what a result depends on besides settings; times stay outside."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "seed": settings.run.seed,
        "packages": {name: installed_version(name) for name in ("tightrope", *PACKAGES)},
    }


def _delete(found: StageDir) -> None:
    doomed = found.path.with_name(f".{found.path.name}.deleting")
    shutil.rmtree(doomed, ignore_errors=True)  # of a process that was killed while it deleted
    found.path.replace(doomed)
    shutil.rmtree(doomed)


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, None if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        path = f"{prefix}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat
