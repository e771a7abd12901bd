"""The run directory: runs/NAME/STAGE/ is created, refused, resumed and read through this file.

    runs/NAME/STAGE/config.yaml        resolved settings
                    environment.json   versions, platform, seed (no times: equal runs, equal files)
                    metrics.jsonl      one row per step
                    episodes/          step_00001.jsonl, ..., each renamed when whole
                    checkpoints/ ...   whatever else the stage writes
                    inputs.json        digests of the stages that it was made from
                    done               JSON with a digest of the stage's output, written last

Only the main process of a distributed run writes; the others pass `is_main=False` and touch
nothing. Tasks and fetched models are shared between runs and live in `run.cache`.
"""

import json
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml

from envs.errors import UserError
from envs.files import (
    append_row,
    hash_files,
    hash_text,
    join_lines,
    read_rows,
    to_json,
    write_whole,
)
from train.config.settings import Settings
from train.stages.output import say

Stage = Literal["tasks", "demos", "sft", "grpo", "evaluate", "export", "report"]

COMMANDS: dict[Stage, str] = {
    "tasks": "tightrope tasks build",
    "demos": "tightrope demos",
    "sft": "accelerate launch train/sft.py",
    "grpo": "accelerate launch train/grpo.py",
    "evaluate": "tightrope evaluate",
    "export": "tightrope export",
    "report": "tightrope report",
}

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy")


_LORA = ("model.lora_rank", "model.lora_alpha", "model.lora_targets")
BAKED: dict[Stage, tuple[str, ...]] = {
    "demos": ("model.base", "model.chat_template", "prompt.template_args"),
    "sft": ("model.base", "model.tiny", *_LORA),
    "grpo": ("model.base", "model.tiny", *_LORA),
}
"""Settings that a finished stage holds in its files, so that another value would change nothing."""


@dataclass(frozen=True)
class StageDir:
    """One stage of one run: its paths, and how to write them.

    Args:
        path: runs/NAME/STAGE.
        stage: Its name.
        is_main: False in all processes but the first, where every write does nothing.
    """

    path: Path
    stage: Stage
    is_main: bool = True

    @property
    def config(self) -> Path:
        """Resolved settings."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per step."""
        return self.path / "metrics.jsonl"

    @property
    def episodes(self) -> Path:
        """Folder of one JSONL file per step."""
        return self.path / "episodes"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def done(self) -> Path:
        """Marker that the stage is whole."""
        return self.path / "done"

    def is_done(self) -> bool:
        """Tell whether the stage came to its end."""
        return self.done.is_file()

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one row; a number that is not finite becomes null."""
        if self.is_main:
            append_row(self.metrics, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return all rows; a last line cut short by a kill is left out."""
        return read_rows(self.metrics)

    def episode_file(self, name: int | str) -> Path:
        """Return the path of a step's episodes, or of a named file such as 'grpo' in evaluate."""
        stem = f"step_{name:05d}" if isinstance(name, int) else name
        return self.episodes / f"{stem}.jsonl"

    def write_episodes(self, name: int | str, lines: Iterable[str]) -> Path:
        """Write one JSON text per line; the file appears under its name only when it is whole."""
        path = self.episode_file(name)
        if self.is_main:
            write_whole(path, join_lines(lines))
        return path

    def rewind(self, step: int) -> None:
        """Forget what came after `step`, the last checkpoint's: metrics rows and episodes."""
        if not self.is_main:
            return
        rows = [row for row in self.read_metrics() if row.get("step", 0) <= step]
        if self.metrics.exists():
            write_whole(self.metrics, join_lines(map(to_json, rows)))
        for path in self.episodes.glob("step_*.jsonl"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()

    def say_stopped(self, step: int) -> None:
        """Say how to go on after a signal ended the stage early."""
        if self.is_main:
            say(f"stopped after step {step}, saved; to go on, run the same command with --resume")

    def finish(self, facts: Mapping[str, Any], *, output: Path) -> None:
        """Write the `done` marker: `facts` about the result, and a digest of the file or folder."""
        if self.is_main:
            facts = {**facts, "output_sha256": _digest(output)}
            write_whole(self.done, to_json(facts, indent=2) + "\n")

    def digest(self) -> str | None:
        """Return what tells this finished stage from one made anew; None if unfinished."""
        marker = self.path / "manifest.json" if self.stage == "tasks" else self.done
        return _digest(marker) if marker.is_file() else None

    def inputs(self) -> dict[Stage, str]:
        """Return the digests of the stages that this one was begun with."""
        path = self.path / "inputs.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def stage_dir(settings: Settings, stage: Stage) -> StageDir:
    """Return the stage's directory for reading, whether it exists or not."""
    return StageDir(Path(settings.run.dir) / settings.run.name / stage, stage)


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
        settings: The experiment.
        stage: Which one.
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
    if dry_run:
        return found
    if clean and found.path.exists():
        _delete(found)
    if reopen and found.is_done():
        found.done.unlink()
    changes = config_changes(found.config, settings)
    if found.is_done() or changes:
        state = "is finished, nothing is made again" if found.is_done() else "goes on"
        told = f"; settings changed since: {', '.join(changes)}" if changes else ""
        say(f"{found.path} {state}{told}")
    if found.is_done():
        return found
    digests = {each.stage: each.digest() for each in inputs}
    found.path.mkdir(parents=True, exist_ok=True)
    write_whole(found.config, dump_settings(settings))
    write_whole(found.path / "inputs.json", to_json(digests, indent=2) + "\n")
    write_whole(found.path / "environment.json", to_json(environment(settings), indent=2) + "\n")
    return found


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
    found = stage_dir(settings, stage)
    if stage == "tasks":
        found = StageDir(tasks_dir(settings), stage)
        whole = (found.path / "manifest.json").is_file()
    else:
        whole = found.is_done()
    if whole:
        changed = [name for name in changed_inputs(settings, found) if name != "tasks"]
        if changed:
            raise UserError(
                f"{found.path} was made from another {' and '.join(changed)}",
                got="made anew since",
                remedy=f"{COMMANDS[stage]} {experiment} --clean",
            )
        if other := _baked_changes(found, settings):
            raise UserError(
                f"{found.path} was made with other settings",
                got=", ".join(other),
                remedy=f"set them back, or {COMMANDS[stage]} {experiment} --clean",
            )
        return found
    half = stage != "tasks" and found.path.exists()
    remedy = f"{COMMANDS[stage]} {experiment}{' --resume' if half else ''}"
    raise UserError(f"{found.path} is {'unfinished' if half else 'missing'}", remedy=remedy)


def _baked_changes(found: StageDir, settings: Settings) -> list[str]:
    names = BAKED.get(found.stage, ())
    goes_on = settings.model.kind != "tiny" and settings.grpo.start_from == "sft"
    if found.stage == "sft" and not goes_on:  # no adapter of its own that another stage reads
        names = tuple(name for name in names if name not in _LORA)
    changes = config_changes(found.config, settings)
    starts = tuple(f"{name}{end}" for name in names for end in ":.")
    return [change for change in changes if change.startswith(starts)]


def changed_inputs(settings: Settings, found: StageDir) -> list[Stage]:
    """Return which stages were made anew, or exchanged, since `found` was begun with them."""
    return [
        name
        for name, digest in found.inputs().items()
        if _now(settings, name) not in (None, digest)
    ]


def _now(settings: Settings, name: Stage) -> str | None:
    folder = tasks_dir(settings) if name == "tasks" else stage_dir(settings, name).path
    return StageDir(folder, name).digest()


def tasks_dir(settings: Settings) -> Path:
    """Return `tasks.dir`, or the folder in the cache that the section's values name."""
    if settings.tasks.dir is not None:
        return Path(settings.tasks.dir)
    section = settings.tasks.model_dump(mode="json", exclude={"dir", "difficulty"})
    digest = hash_text(to_json(section))[:12]
    source = settings.tasks.source.replace(":", ".")
    return cache_dir(settings) / "tasks" / f"{source}-{digest}"


def cache_dir(settings: Settings) -> Path:
    """Return the folder that runs share, from the working directory like `run.dir`."""
    return Path(settings.run.cache).expanduser()


def model_dir(cache: Path, name: str) -> Path:
    """Return the folder of a fetched model such as `smollm2-135m`."""
    return cache / "models" / name


def dump_settings(settings: Settings) -> str:
    """Return all settings, defaults included, as YAML that `load_settings` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def config_changes(old: Path, settings: Settings) -> tuple[str, ...]:
    """Return which settings differ from the saved ones, as 'section.field: old -> new'."""
    if not old.is_file():
        return ()
    before = _flat(yaml.safe_load(old.read_text(encoding="utf-8")))
    after = _flat(settings.model_dump(mode="json"))
    names = [*after, *(name for name in before if name not in after)]
    return tuple(
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in names
        if before.get(name, "absent") != after.get(name, "absent")
    )


def environment(settings: Settings) -> dict[str, Any]:
    """Return what a result depends on besides settings; times stay outside."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "seed": settings.run.seed,
        "packages": {name: _version(name) for name in ("tightrope", *PACKAGES)},
    }


def _digest(path: Path) -> str:
    """Return the sha256 of a file, or of all files below a folder with their names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return hash_files({str(file.relative_to(path)): file for file in files if file.is_file()})


def _delete(found: StageDir) -> None:
    doomed = found.path.with_name(f".{found.path.name}.deleting")
    shutil.rmtree(doomed, ignore_errors=True)  # of a process that was killed while it deleted
    found.path.replace(doomed)
    shutil.rmtree(doomed)


def _version(name: str) -> str | None:
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
