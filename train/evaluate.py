"""Plays held-out tasks with every policy and writes runs/NAME/evaluate/summary.json with intervals.

Each policy's episodes are one file, written whole; a policy whose file exists is not played
again, so an interrupted evaluation goes on where it stopped. All policies meet the same tasks,
windows and seeds.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from envs.jsonl import read_records
from envs.policies import draw_habits
from envs.records import Episode, Policy
from rewards.metrics import compare, summarize
from train.arena import open_arena
from train.generate import Engine, engine_for
from train.model import stage_policy
from train.progress import Progress
from train.rollouts import Arena, Request, group_requests, model_policy
from train.run_dir import StageDir, write_whole
from train.settings import Settings

SCRIPTS = ("gold", "careful", "wasteful", "noop")
_BASE_TASKS = 32  # `base` rarely finds the end, so its episodes cost the most time
_BASE_TURNS = 4


@dataclass(frozen=True)
class Series:
    """One policy under one way of sampling; `name` is also that of its episode file."""

    policy: str
    sampling: str
    num_tasks: int
    num_samples: int
    max_turns: int

    @property
    def name(self) -> str:
        """File name: the policy's, or POLICY-greedy."""
        return f"{self.policy}-greedy" if self.sampling == "greedy" else self.policy


def evaluate(settings: Settings, stage: StageDir) -> dict[str, Any]:
    """Play what is missing, then summarise all; returns the summary."""
    found: dict[str, tuple[Series, list[Episode]]] = {}
    for series in planned(settings):
        path = stage.episode_file(series.name)
        if not path.is_file():
            episodes = play_series(settings, series)
            stage.write_episodes(series.name, (e.model_dump_json() for e in episodes))
        found[series.name] = (series, read_episodes(stage, series.name))
    summary = summarise(found, seed=settings.run.seed)
    write_whole(stage.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def planned(settings: Settings) -> list[Series]:
    """Return what is played, in the order of the table."""
    wanted, turns = settings.evaluate, settings.context.max_turns
    temperature = "temperature 1"
    series = []
    for name in wanted.policies:
        policy = name.removesuffix("-greedy")
        if policy == "base":
            num_tasks = min(_BASE_TASKS, wanted.num_tasks)
            series.append(Series(policy, temperature, num_tasks, 1, min(_BASE_TURNS, turns)))
        elif policy in SCRIPTS:
            series.append(Series(policy, "scripted", wanted.num_tasks, 1, turns))
        elif policy != name:
            series.append(Series(policy, "greedy", wanted.num_tasks, 1, turns))
        else:
            series.append(Series(policy, temperature, wanted.num_tasks, wanted.num_samples, turns))
    return series


def play_series(settings: Settings, series: Series) -> list[Episode]:
    """Play one series on the front of the held-out split."""
    with open_arena(settings, max_turns=series.max_turns) as arena:
        tasks = [task.id for task in arena.store.split(settings.evaluate.split)]
        requests = group_requests(
            settings,
            tasks[: series.num_tasks],
            stage="evaluate",
            step=0,
            group_size=series.num_samples,
        )
        what = f"evaluate {series.name}"
        with Progress(what, total=len(requests), unit="episodes") as progress:
            engine = series_engine(settings, series, arena)
            scripted = partial(_script, arena, series.policy)
            return arena.play_all(
                requests,
                model_policy(engine) if engine else scripted,
                policy=series.policy,
                concurrency=settings.grpo.generation_batch,
                engine=engine,
                on_episode=lambda r, e: progress.advance(),
            )


def series_engine(settings: Settings, series: Series, arena: Arena) -> Engine | None:
    """Return what generates for a model's series; scripts need nothing."""
    if series.policy in SCRIPTS:
        return None
    model = stage_policy(settings, series.policy)
    if torch.cuda.is_available() and not settings.model.load_in_4bit:  # 4 bits load on the GPU
        model.to("cuda")
    return engine_for(model, arena.chat, settings, greedy=series.sampling == "greedy")


def _script(arena: Arena, name: str, request: Request) -> Policy:
    habits = None
    if name in ("careful", "wasteful"):
        habits = draw_habits(name, rng=random.Random(request.seed))  # type: ignore[arg-type]
    return arena.script(arena.store.public[request.task_id], name, habits=habits)


def read_episodes(stage: StageDir, name: str) -> list[Episode]:
    """Read the episodes of one series."""
    return read_records(stage.episode_file(name), Episode)


def summarise(
    found: Mapping[str, tuple[Series, Sequence[Episode]]], *, seed: int
) -> dict[str, Any]:
    """Return the content of `summary.json`: a row per series, and sft against grpo."""
    rows = [
        summarize(episodes, name=series.policy, sampling=series.sampling, seed=seed)
        for series, episodes in found.values()
    ]
    comparisons = [
        compare(found[first][1], found[second][1], first_name=first, second_name=second, seed=seed)
        for first, second in (("sft", "grpo"), ("sft-greedy", "grpo-greedy"))
        if first in found and second in found
    ]
    return {"schema_version": 1, "policies": rows, "comparisons": comparisons}
