"""Runs of a study: each made stage by stage through the commands, resumed where it was interrupted.

    place = Place(Path("runs/study"), ROOT / "configs/tiny.yaml", shared=("--tasks.test=400",))
    cells = [Cell("seed0", 0), Cell("free0", 0, ("--reward.cost_weight=0",), warm_start="seed0")]
    make_cells(place, cells, budget_s=3600)
    find_missing(place, cells)  # what a table has to name

A finished stage is kept, one that was begun goes on. Past the budget nothing new is begun, and what
runs gets a SIGTERM, upon which training saves a checkpoint: the same command goes on from there.
"""

import math
import os
import queue
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from envs.errors import UserError
from envs.files import append_row, read_rows
from envs.records import Episode
from train.config.load import load_settings
from train.config.settings import Settings
from train.rl.checkpoints import find_last_checkpoint, read_step
from train.stages.open_stage import changed_inputs, config_changes
from train.stages.run_dir import Stage, StageDir, stage_dir, stage_in

ROOT = Path(__file__).resolve().parents[1]
_MAIN, _TRAIN = str(ROOT / "scripts" / "main.py"), ROOT / "train"
_PROGRAMS: dict[Stage, list[str]] = {
    "demos": [_MAIN, "demos"],
    "sft": [str(_TRAIN / "sft.py")],
    "grpo": [str(_TRAIN / "grpo.py"), "--force"],
    "evaluate": [_MAIN, "evaluate"],
}
_PATIENCE_S = 300.0  # between a SIGTERM and a kill: the step that runs comes to its end
_LOOK_S = 0.5


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        name: Of its folder.
        seed: Of the run.
        settings: Overrides, such as `--grpo.resample=8`.
        policies: Entries of `evaluate.policies`; GRPO is trained if one of them comes from it, and
            without any nothing is evaluated. `{folder}` stands for the study's, `{last}` for what
            this cell's GRPO came to: its adapter, or the last checkpoint where it was ended early.
        warm_start: The cell whose demonstrations and warm start it uses; '' makes its own.
        max_episodes: GRPO is ended, with a checkpoint, once it has played so many; None: never.
    """

    name: str
    seed: int
    settings: tuple[str, ...] = ()
    policies: tuple[str, ...] = ("grpo",)
    warm_start: str = ""
    max_episodes: int | None = None

    @property
    def stages(self) -> list[Stage]:
        """Its stages, those of another cell's warm start left out."""
        is_trained = any(each.startswith(("grpo", "{last}")) for each in self.policies)
        wanted = {"demos": not self.warm_start, "sft": not self.warm_start}
        wanted |= {"grpo": is_trained, "evaluate": bool(self.policies)}
        return [stage for stage in _PROGRAMS if wanted[stage]]


@dataclass(frozen=True)
class Place:
    """Where the runs of a study live, and the configuration that they share.

    Attributes:
        folder: Of the runs, absolute.
        config: A YAML file, absolute.
        shared: Overrides of all cells.
    """

    folder: Path
    config: Path
    shared: tuple[str, ...] = ()

    def arguments(self, cell: Cell, *, policies: bool = False) -> list[str]:
        """Return the configuration of a cell, with the policies that can be named by now or not."""
        names = [self._name(cell, each) for each in cell.policies] if policies else []
        return [
            f"--config={self.config}",
            f"--run.dir={self.folder}",
            f"--run.name={cell.name}",
            f"--run.seed={cell.seed}",
            *self.shared,
            *cell.settings,
            *([f"--evaluate.policies=[{', '.join(names)}]"] if names else []),
        ]

    def settings(self, cell: Cell, *, policies: bool = False) -> Settings:
        """Return the settings of a cell."""
        return load_settings(self.config, self.arguments(cell, policies=policies)[1:])

    def stage(self, cell: Cell, stage: Stage) -> StageDir:
        """Return a stage of a cell, whether it is there or not."""
        return stage_in(self.folder / cell.name, stage)

    def episodes(self, cell: Cell, series: str) -> list[Episode]:
        """Read what a policy of a cell played in its evaluation."""
        return self.stage(cell, "evaluate").read_episodes(series)

    def count_played(self, cell: Cell) -> int:
        """Return how many episodes the GRPO of a cell has played, dropped ones included."""
        rows = self.stage(cell, "grpo").read_metrics()
        return sum(round(row["num_episodes"]) for row in rows)

    def seconds(self, cell: Cell, stage: Stage) -> float | None:
        """Return the wall seconds that a stage's commands took; None if it is not whole."""
        if not self.is_whole(cell, stage):
            return None
        made_in = self.stage(cell, stage).path.resolve().parent
        rows = read_rows(made_in / "seconds.jsonl")
        return float(sum(row["seconds"] for row in rows if row["stage"] == stage))

    def is_whole(self, cell: Cell, stage: Stage) -> bool:
        """Tell whether a stage came to its end, and evaluated all that is asked for."""
        found = self.stage(cell, stage)
        if stage == "grpo" and cell.max_episodes is not None and not found.is_done():
            rows, last = found.read_metrics(), find_last_checkpoint(found)
            is_saved = last is not None and bool(rows) and read_step(last) == rows[-1]["step"]
            return is_saved and self.count_played(cell) >= cell.max_episodes
        if stage == "evaluate" and found.is_done():
            played = found.read_config().get("evaluate", {}).get("policies", [])
            return {self._name(cell, each) for each in cell.policies} <= set(played)
        return found.is_done()

    def is_made(self, cell: Cell) -> bool:
        """Tell whether all stages of a cell are whole."""
        return all(self.is_whole(cell, stage) for stage in cell.stages)

    def _name(self, cell: Cell, policy: str) -> str:
        grpo = self.stage(cell, "grpo")
        last = grpo.path / "adapter" if grpo.is_done() else find_last_checkpoint(grpo)
        return policy.format(folder=self.folder, last=last or "{last}")


def find_missing(place: Place, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that are not whole."""
    return [cell for cell in cells if not place.is_made(cell)]


def make_cells(
    place: Place, cells: Sequence[Cell], *, jobs: int = 1, budget_s: float = math.inf
) -> list[Cell]:
    """Make what is missing, each run on its share of the cores; returns the cells that are whole.

    Where one fails, the others go on.

    Args:
        place: Where they live.
        cells: Those with a warm start of their own come first.
        jobs: Runs at a time.
        budget_s: Wall seconds after which nothing new is begun and what runs is ended.
    """
    assert place.folder.is_absolute() and place.config.is_absolute(), "commands run elsewhere"
    ends_at = time.monotonic() + budget_s
    cores, free = sorted(os.sched_getaffinity(0)), queue.Queue[list[int]]()
    for job in range(jobs):
        free.put(cores[job::jobs] or cores)
    for cell in cells:  # one at a time: most share a set, which is there after the first
        if not stage_dir(place.settings(cell), "tasks").is_done():
            line = [sys.executable, _MAIN, "tasks", "build", *place.arguments(cell)]
            subprocess.run(line, check=True, cwd=ROOT)

    def make(cell: Cell) -> None:
        mine = free.get()
        try:
            _make_cell(place, cell, cores=mine, ends_at=ends_at)
        except (UserError, subprocess.CalledProcessError) as error:
            print(f"{cell.name} failed, the others go on: {error}", flush=True)
        finally:
            free.put(mine)

    for goes_on in (False, True):
        part = [cell for cell in cells if bool(cell.warm_start) == goes_on]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(make, part))
    return [cell for cell in cells if place.is_made(cell)]


def _make_cell(place: Place, cell: Cell, *, cores: Sequence[int], ends_at: float) -> None:
    """Make the stages of a cell that are missing.

    Raises:
        UserError: A stage was made with other settings, or there is no warm start to go on with.
        CalledProcessError: A command failed.
    """
    folder = place.folder / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ("demos", "sft") if cell.warm_start else ():
        if not (folder / stage).is_symlink():  # it may point to what is to come
            (folder / stage).symlink_to(place.folder / cell.warm_start / stage)
    settings = place.settings(cell)
    if time.monotonic() < ends_at and cell.warm_start and not place.stage(cell, "sft").is_done():
        raise UserError(f"the warm start of {cell.warm_start} is not whole", remedy="see its log")
    for stage in cell.stages:
        found = place.stage(cell, stage)
        _check_same(found, settings, is_trained="grpo" in cell.stages)
        if place.is_whole(cell, stage):
            continue
        if time.monotonic() > ends_at:
            return
        again = {"demos": "--clean"}.get(stage, "--resume") if found.path.exists() else ""
        arguments = place.arguments(cell, policies=stage == "evaluate")
        line = [sys.executable, *_PROGRAMS[stage], *arguments, *([again] if again else [])]
        print(f"{cell.name}: {stage}", flush=True)
        began = time.monotonic()
        _run(place, cell, stage, line, cores=cores, ends_at=ends_at)
        took = {"stage": stage, "seconds": time.monotonic() - began}
        append_row(folder / "seconds.jsonl", took)
        if not place.is_whole(cell, stage):
            return


def _run(
    place: Place,
    cell: Cell,
    stage: Stage,
    line: Sequence[str],
    *,
    cores: Sequence[int],
    ends_at: float,
) -> None:
    """Run a command; end it when the time is used up, or GRPO has played enough.

    Raises:
        CalledProcessError: It failed, and was not ended here.
    """
    on_cores = ["taskset", "--cpu-list", ",".join(map(str, cores))]
    most = cell.max_episodes if stage == "grpo" and cell.max_episodes is not None else math.inf
    with (place.folder / cell.name / f"{stage}.log").open("ab") as log:
        process = subprocess.Popen([*on_cores, *line], cwd=ROOT, stdout=log, stderr=log)
        is_late = False
        while process.poll() is None and not is_late:
            time.sleep(_LOOK_S)
            is_late = time.monotonic() > ends_at
            is_late = is_late or (most < math.inf and place.count_played(cell) >= most)
        if is_late and process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.wait()
    if code and not is_late:
        raise subprocess.CalledProcessError(code, list(line))


def _check_same(found: StageDir, settings: Settings, *, is_trained: bool) -> None:
    """Refuse a stage that was made with other settings; one of another cell's is as it is.

    Raises:
        UserError: See above.
    """
    if found.path.is_symlink() or not found.config.exists():
        return
    other = ["run.name", "run.cache", "evaluate.policies"]
    if found.stage not in ("grpo", "evaluate") or not is_trained:
        other += ["grpo.", "reward."]  # but rows per step of the warm start follow from these:
    changes = [
        change
        for change in config_changes(found, settings)
        if change.startswith("grpo.tokens_per_microbatch") or not change.startswith(tuple(other))
    ]
    if changes := changes + [str(name) for name in changed_inputs(settings, found)]:
        raise UserError(
            f"{found.path} was made with other settings or from other stages",
            got="; ".join(changes),
            remedy=f"delete {found.path}, or name another --folder",
        )
