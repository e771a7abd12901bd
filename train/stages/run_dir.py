"""The run directory: where the files of a run lie, and the one place that reads and writes them.

    runs/NAME/STAGE/config.yaml        resolved settings
                    environment.json   versions, platform, seed (no times: equal runs, equal files)
                    metrics.jsonl      one row per step
                    episodes/          step_00001.jsonl.gz, ..., each renamed when whole
                    scores/            of GRPO's episodes, a line each, under the same names
                    rewards.jsonl      which reward scored which of GRPO's steps
                    checkpoints/ ...   whatever else the stage writes
                    inputs.json        digests of the stages that it was made from
                    done               JSON with a digest of the stage's output, written last

Only the main process of a distributed run writes; the others pass `is_main=False` and touch
nothing. Tasks and fetched models are shared between runs and live in `run.cache`. How a stage is
begun, resumed or refused: train/stages/open_stage.py.
"""

import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from envs.errors import UserError
from envs.files import (
    append_row,
    hash_files,
    hash_text,
    join_lines,
    pack_records,
    read_rows,
    stream_records,
    to_json,
    write_parts,
    write_whole,
)
from envs.records import Episode, Score
from train.config.settings import Settings, rename_settings
from train.stages.stage_log import say

Stage = Literal["tasks", "demos", "sft", "grpo", "evaluate", "fork", "export", "report"]
# Of `tasks`: which set, what is taken of it, and what runs its suites.
NOT_IN_A_SET = ("dir", "difficulty", "recorded_calls", "python")

_ENDINGS = (".jsonl.gz", ".jsonl")  # of episodes, today and in older versions

COMMANDS: dict[Stage, str] = {
    "tasks": "tightrope tasks build",
    "demos": "tightrope demos",
    "sft": "accelerate launch train/sft.py",
    "grpo": "accelerate launch train/grpo.py",
    "evaluate": "tightrope evaluate",
    "fork": "tightrope fork",
    "export": "tightrope export",
    "report": "tightrope report",
}


@dataclass(frozen=True)
class StageDir:
    """One stage of one run: its paths, and how to write them.

    Args:
        path: runs/NAME/STAGE.
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
    def dev_rows(self) -> Path:
        """One JSON object per evaluation on dev tasks."""
        return self.path / "dev.jsonl"

    @property
    def rewards(self) -> Path:
        """The reward of GRPO, a JSON object for each that a step was the first to be scored by."""
        return self.path / "rewards.jsonl"

    @property
    def scores(self) -> Path:
        """Folder of one packed JSONL file of scores per file of episodes that is trained on."""
        return self.path / "scores"

    @property
    def episodes(self) -> Path:
        """Folder of one packed JSONL file per step; of demos the stage's own, with one file."""
        return self.path if self.stage == "demos" else self.path / "episodes"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def served(self) -> Path:
        """What servers were given, for a run that was killed; beside the stage: --clean spares it.

        It is there while a run is at work, and after one that was killed.
        """
        return self.path.with_name(f"{self.stage}_served.json")

    @property
    def done(self) -> Path:
        """Marker that the stage is whole."""
        return self.path / ("manifest.json" if self.stage == "tasks" else "done")

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
        """Return the path of a step's episodes, or of a named file such as 'grpo' in evaluate.

        Packed, unless an older version left it plain.
        """
        packed, plain = self._episode_files(name)
        return plain if plain.is_file() and not packed.is_file() else packed

    def list_episodes(self, prefix: str = "") -> list[str]:
        """Return the names of the files that hold episodes, in order: of steps 'step_00001'."""
        found = ((ending, self.episodes.glob(f"{prefix}*{ending}")) for ending in _ENDINGS)
        return sorted({path.name.removesuffix(ending) for ending, paths in found for path in paths})

    def read_episodes(self, name: int | str) -> list[Episode]:
        """Read the episodes of a step, or of a named file, as `stream_episodes` does."""
        return list(self.stream_episodes(name))

    def stream_episodes(self, name: int | str) -> Iterator[Episode]:
        """Yield the episodes of a step, or of a named file, one at a time.

        Raises:
            UserError: A line is not an episode of this version, or the file is damaged.
        """
        path = self.episode_file(name)
        remedy = f"run the stage that wrote it again: {COMMANDS[self.stage]}, with --clean"
        try:
            yield from stream_records(path, Episode)
        except (EOFError, BadGzipFile, zlib.error) as error:
            raise UserError(f"{path} is damaged", got=str(error), remedy=remedy) from error
        except ValidationError as error:
            problem = error.errors()[0]
            raise UserError(
                f"{path} holds no episodes of this version",
                got=f"{'.'.join(map(str, problem['loc'])) or 'the line'}: {problem['msg']}",
                remedy=remedy,
            ) from error

    def read_json(self, name: str) -> Any:
        """Read a file of the stage such as 'done' or 'summary.json'; {} if there is none."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def read_config(self) -> dict[str, Any]:
        """Read the resolved settings as plain data under today's names; {} if there are none."""
        if not self.config.is_file():
            return {}
        return rename_settings(yaml.safe_load(self.config.read_text(encoding="utf-8")))

    def write_episodes(self, name: int | str, episodes: Iterable[Episode]) -> Path:
        """Write one episode per line; the file appears under its name only when it is whole."""
        packed, plain = self._episode_files(name)
        if self.is_main:
            pack_records(packed, episodes)
            plain.unlink(missing_ok=True)
        return packed

    def write_parts(self, name: str, parts: Iterable[bytes]) -> None:
        """Write episodes that were packed in parts, as `write_episodes` does."""
        packed, plain = self._episode_files(name)
        if self.is_main:
            write_parts(packed, parts)
            plain.unlink(missing_ok=True)

    def score_file(self, name: str) -> Path:
        """Return the path of the scores of a file of episodes, such as 'step_00001'."""
        return self.scores / f"{name}{_ENDINGS[0]}"

    def write_scores(self, name: str, scores: Iterable[Score]) -> None:
        """Write one score per episode of the file of this name, in its order."""
        if self.is_main:
            pack_records(self.score_file(name), scores)

    def read_scores(self, name: str) -> list[Score]:
        """Read the scores of a file of episodes; [] where an older version saved none."""
        path = self.score_file(name)
        return list(stream_records(path, Score)) if path.is_file() else []

    def rewind(self, step: int) -> None:
        """Forget what came after `step`, the last checkpoint's: rows, episodes, dev adapters."""
        if not self.is_main:
            return
        for path in filter(Path.exists, (self.metrics, self.dev_rows, self.rewards)):
            rows = [row for row in read_rows(path) if row.get("step", 0) <= step]
            write_whole(path, join_lines(map(to_json, rows)))
        for name in self.list_episodes():  # step_STEP and dev_STEP
            if int(name.partition("_")[2]) > step:
                self.episode_file(name).unlink()
                self.score_file(name).unlink(missing_ok=True)
        for folder in (self.episodes, self.scores):
            for draft in folder.glob(".*"):  # of a process that was killed while it wrote
                shutil.rmtree(draft)
        for folder in (self.path / "dev").glob("*"):
            if int(folder.name) > step:
                shutil.rmtree(folder)

    def say_stopped(self, step: int) -> None:
        """Say how to go on after a signal ended the stage early."""
        if self.is_main:
            say(f"stopped after step {step}, saved; to go on, run the same command with --resume")

    def finish(self, facts: Mapping[str, Any], *, output: Path) -> None:
        """Write the `done` marker: `facts` about the result, and a digest of the file or folder."""
        if self.is_main:
            facts = {**facts, "output_sha256": _digest(output)}
            write_whole(self.done, to_json(facts, indent=2) + "\n")

    def _episode_files(self, name: int | str) -> tuple[Path, Path]:
        """Return where episodes lie packed, and where an older version put them."""
        stem = f"step_{name:05d}" if isinstance(name, int) else name
        packed, plain = (self.episodes / f"{stem}{ending}" for ending in _ENDINGS)
        return packed, plain

    def digest(self) -> str | None:
        """Return what identifies this finished stage, which one made anew changes; else None."""
        return _digest(self.done) if self.is_done() else None


def stage_dir(settings: Settings, stage: Stage) -> StageDir:
    """Return the stage's directory for reading, whether it exists or not; of tasks the set's."""
    if stage == "tasks":
        return StageDir(tasks_dir(settings), stage)
    return stage_in(Path(settings.run.dir) / settings.run.name, stage)


def stage_in(run: Path, stage: Stage) -> StageDir:
    """Return the directory of a stage of the run in `run`, whether it exists or not."""
    return StageDir(run / stage, stage)


def tasks_dir(settings: Settings) -> Path:
    """Return `tasks.dir`, or the folder in the cache that the section's values name.

    Values at their defaults are no part of the name, so a new setting renames no set.
    """
    if settings.tasks.dir is not None:
        return Path(settings.tasks.dir)
    section = settings.tasks.model_dump(
        mode="json", exclude=set(NOT_IN_A_SET), exclude_defaults=True
    )
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


def _digest(path: Path) -> str:
    """Return the sha256 of a file, or of all files below a folder with their names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return hash_files({str(file.relative_to(path)): file for file in files if file.is_file()})
