"""Plays held-out tasks with every policy and writes runs/NAME/evaluate/summary.json with intervals.

Each policy's episodes are one file, written whole; a policy whose file exists is not played
again, so an interrupted evaluation goes on where it stopped, unless what was played has changed
since (`played.json` has what it was). All policies meet the same tasks, windows and seeds; a model
with another vocabulary counts its own tokens.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerFast

from envs.errors import UserError
from envs.files import write_whole
from envs.policies import draw_options
from envs.records import Episode, Policy
from rewards.metrics import compare, summarize
from train.config.policy_names import entry_of, names_of
from train.config.settings import Settings
from train.models.model import load_tokenizer
from train.models.vocabulary import saved_tokenizer
from train.rollouts.arena import open_arena
from train.rollouts.engine import Engine, engine_for
from train.rollouts.policy_places import Place, acting_model, find_place
from train.rollouts.runner import Arena, Request, group_requests, model_policy
from train.stages.open_stage import list_changes
from train.stages.progress import Progress
from train.stages.run_dir import StageDir, stage_dir

Sampling = Literal["temperature 1", "greedy", "scripted"]


@dataclass(frozen=True)
class Series:
    """One policy under one way of sampling.

    Attributes:
        policy: Its name: of a folder the short one.
        written: The entry of `evaluate.policies`.
        place: Where its weights are.
        sampling: How it is sampled; all but the first once per task.
        num_samples: Episodes per task.
    """

    policy: str
    written: str
    place: Place
    sampling: Sampling
    num_samples: int

    @property
    def name(self) -> str:
        """File name: the policy's, or POLICY-greedy."""
        return f"{self.policy}-greedy" if self.sampling == "greedy" else self.policy


def evaluate(
    settings: Settings, stage: StageDir, wanted: Sequence[Series], *, now: datetime
) -> dict[str, Any]:
    """Play what is missing, then summarise all; returns the summary.

    Args:
        settings: The experiment.
        stage: Where episodes and summary go.
        wanted: What is to be in the summary.
        now: The date in chat templates that no stage has fixed yet.
    """
    found: dict[str, tuple[Series, list[Episode]]] = {}
    for series in wanted:
        if not stage.episode_file(series.name).is_file():
            _note_played(settings, stage, series)
            episodes = play_series(settings, series, tokenizer=_tokenizer(stage, series, now))
            stage.write_episodes(series.name, episodes)
        found[series.name] = (series, stage.read_episodes(series.name))
    summary = summarise(found, seed=settings.run.seed)
    write_whole(stage.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def planned(settings: Settings, *, now: datetime) -> list[Series]:
    """Find and check all policies; returns what is played, in the order of the table.

    Raises:
        UserError: One of them is not there, or does not fit.
    """
    entries = list({entry_of(text): None for text in settings.evaluate.policies})
    names = names_of(entries)
    series = []
    for entry in entries:
        sampling: Sampling = "greedy" if entry.is_greedy else "temperature 1"
        if entry.kind == "script":
            sampling = "scripted"
        num_samples = settings.evaluate.num_samples if sampling == "temperature 1" else 1
        place = find_place(settings, entry, now=now)
        series.append(Series(names[entry.policy], entry.policy, place, sampling, num_samples))
    return series


def is_summarised(stage: StageDir, wanted: Sequence[Series]) -> bool:
    """Tell whether the summary that is there is of just these policies, and of what is there."""
    files = [stage.episode_file(series.name) for series in wanted]
    if not stage.is_done() or not all(path.is_file() for path in files):
        return False
    rows = stage.read_json("summary.json")["policies"]
    return [(row["name"], row["sampling"]) for row in rows] == [
        (series.policy, series.sampling) for series in wanted
    ]


def check_unchanged(settings: Settings, stage: StageDir, wanted: Sequence[Series]) -> None:
    """Refuse to go on with episodes of something that has changed since they were played.

    Raises:
        UserError: The weights behind a name, or what was asked of it, are others now.
    """
    played = stage.read_json("played.json")
    for series in wanted:
        before, now = played.get(series.name), _description(settings, series)
        path = stage.episode_file(series.name)
        if before is None or before == now or not path.is_file():
            continue
        raise UserError(
            f"{series.name} has changed since its episodes were played",
            got="; ".join(list_changes(before, now))[:300],
            remedy=f"delete {path} to play it again, or --clean to play all again",
        )


def _description(settings: Settings, series: Series) -> dict[str, Any]:
    """Return what a series' episodes depend on."""
    asked = settings.evaluate
    return {
        "policy": series.written,
        "weights": series.place.digest,
        "tasks": stage_dir(settings, "tasks").digest(),
        "evaluate": {"split": asked.split, "num_tasks": asked.num_tasks},
        "num_samples": series.num_samples,
        "context": settings.context.model_dump(mode="json"),
        "prompt": settings.prompt.model_dump(mode="json"),
        "difficulty": {name: list(bounds) for name, bounds in settings.tasks.difficulty.items()},
        "seed": settings.run.seed,
    }


def _note_played(settings: Settings, stage: StageDir, series: Series) -> None:
    played = {**stage.read_json("played.json"), series.name: _description(settings, series)}
    write_whole(stage.path / "played.json", json.dumps(played, indent=2) + "\n")


def _tokenizer(stage: StageDir, series: Series, now: datetime) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a series' prompts, kept for a resume on another day."""
    is_own = series.place.kind == "model"
    folder = stage.path / "tokenizers" / (series.policy if is_own else "run")
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    tokenizer = series.place.tokenizer(now=now)
    if is_own or saved_tokenizer(series.place.settings) is None:
        tokenizer.save_pretrained(str(folder))
    return tokenizer


def play_series(
    settings: Settings, series: Series, *, tokenizer: PreTrainedTokenizerFast
) -> list[Episode]:
    """Play one series on the front of the held-out split."""
    with open_arena(settings, tokenizer=tokenizer) as arena:
        tasks = [task.id for task in arena.store.split(settings.evaluate.split)]
        requests = group_requests(
            settings,
            tasks[: settings.evaluate.num_tasks],
            stage="evaluate",
            step=0,
            group_size=series.num_samples,
        )
        what = f"evaluate {series.name}"
        with Progress(what, total=len(requests), unit="episodes") as progress:
            engine = series_engine(settings, series, arena, tokenizer)
            scripted = partial(_script, arena, series.policy)
            return arena.play_all(
                requests,
                model_policy(engine) if engine else scripted,
                policy=series.policy,
                concurrency=settings.grpo.generation_batch,
                engine=engine,
                on_episode=lambda r, e: progress.advance(),
            )


def series_engine(
    settings: Settings, series: Series, arena: Arena, tokenizer: PreTrainedTokenizerFast
) -> Engine | None:
    """Return what generates for a model's series; scripts need nothing."""
    if series.place.kind == "script":
        return None
    model = acting_model(series.place, series.written, tokenizer=tokenizer)
    if torch.cuda.is_available() and not settings.model.load_in_4bit:  # 4 bits load on the GPU
        model.to("cuda")
    return engine_for(model, arena.chat, settings, greedy=series.sampling == "greedy")


def _script(arena: Arena, name: str, request: Request) -> Policy:
    options = None
    if name in ("careful", "wasteful"):
        options = draw_options(name, rng=random.Random(request.seed))  # type: ignore[arg-type]
    return arena.script(arena.store.public[request.task_id], name, options=options)


def summarise(
    found: Mapping[str, tuple[Series, Sequence[Episode]]], *, seed: int
) -> dict[str, Any]:
    """Return the content of `summary.json`: a row per series, and some against others."""
    rows = [
        summarize(episodes, name=series.policy, sampling=series.sampling, seed=seed)
        for series, episodes in found.values()
    ]
    comparisons = [
        compare(found[first][1], found[second][1], first_name=first, second_name=second, seed=seed)
        for first, second in compared([series for series, _ in found.values()])
    ]
    return {"schema_version": 1, "policies": rows, "comparisons": comparisons}


def compared(wanted: Sequence[Series]) -> list[tuple[str, str]]:
    """Return which are compared: sft with grpo, and what folders hold with the first policy.

    Only those that are sampled alike, and no scripts.
    """
    pairs: list[tuple[str, str]] = []
    for sampling in ("temperature 1", "greedy"):
        alike = [series for series in wanted if series.sampling == sampling]
        named = {series.policy: series.name for series in alike}
        if "sft" in named and "grpo" in named:
            pairs.append((named["sft"], named["grpo"]))
        for series in alike[1:]:
            if {alike[0].place.kind, series.place.kind} != {"of_the_run"}:
                pairs.append((alike[0].name, series.name))
    return pairs
