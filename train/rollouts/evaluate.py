"""Plays held-out tasks with every policy and writes runs/NAME/evaluate/summary.json with intervals.

Each policy's episodes are one file, written whole; a policy whose file exists is not played
again, so an interrupted evaluation goes on where it stopped, unless what was played has changed
since (`played.json` has what it was). All policies meet the same tasks, windows and seeds
(`windows.json`); a model with another vocabulary counts its own tokens, in windows as large.
"""

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerFast

from envs.errors import UserError
from envs.files import to_json, write_whole
from envs.habits.options import draw_habit, draw_options
from envs.policies import ScriptedPolicy
from envs.records import Episode, Policy
from envs.tools import list_tools
from rewards.metrics import compare, summarize
from train.config.policy_names import name_entries, parse_entry, split_address
from train.config.settings import ContextSettings, Settings
from train.costs.run_costs import SECONDS
from train.models.distributed import of_main, share, take_share
from train.models.model import load_tokenizer
from train.models.vocabulary import saved_tokenizer
from train.rollouts.endpoint import EndpointSampler
from train.rollouts.policy_sources import PolicySource, find_source
from train.rollouts.runner import EpisodeRequest, RolloutRunner, open_runner
from train.servers.chat import Endpoint, Usage
from train.stages.open_stage import list_changes
from train.stages.progress import Progress
from train.stages.run_dir import StageDir, stage_dir
from train.stages.stage_log import say

_USAGE = "usage.json"  # what endpoints counted, by policy
_WINDOWS = "windows.json"  # by task, with what they are made of: least peaks and floors (tokens)

Sampling = Literal["temperature 1", "greedy", "scripted"]


@dataclass(frozen=True)
class EvalSpec:
    """One policy under one way of sampling.

    Attributes:
        policy: Its name: of a folder the short one.
        written: The entry of `evaluate.policies`.
        source: Where its weights come from.
        sampling: How it is sampled; all but the first once per task.
        num_samples: Episodes per task.
    """

    policy: str
    written: str
    source: PolicySource
    sampling: Sampling
    num_samples: int

    @property
    def name(self) -> str:
        """File name: the policy's, or POLICY-greedy."""
        return f"{self.policy}-greedy" if self.sampling == "greedy" else self.policy


def evaluate(
    settings: Settings,
    stage: StageDir,
    wanted: Sequence[EvalSpec],
    *,
    now: datetime,
    key: str | None = None,
) -> dict[str, Any]:
    """Play what is missing, each process its share, then summarise all; returns the summary.

    In all processes but the main one, which alone reads and writes, it is empty.

    Args:
        settings: The experiment.
        stage: Where episodes and summary go.
        wanted: What is to be in the summary.
        now: The date in chat templates that no stage has fixed yet.
        key: Of endpoints.
    """
    processes = PartialState()
    there = of_main([spec.name for spec in wanted if stage.episode_file(spec.name).is_file()])
    for spec in wanted:
        if spec.name in there:
            continue
        with processes.main_process_first():
            if stage.is_main:
                _write_played(settings, stage, spec)
            tokenizer = keep_tokenizer(stage, spec, now)
        began = time.monotonic()
        if spec.source.kind == "endpoint":
            endpoint = Endpoint(*split_address(spec.written), key=key)
            episodes = _play(spec.source.settings, stage, spec, tokenizer, endpoint)
            _write_usage(stage, spec, endpoint)
        else:
            episodes = _play(settings, stage, spec, tokenizer)
        if stage.is_main:  # not in the summary, which is the same whenever it is made
            _keep(stage, SECONDS, spec.name, round(time.monotonic() - began, 3))
        stage.write_episodes(spec.name, episodes)
    if not stage.is_main:
        return {}
    played = {spec.name: stage.read_episodes(spec.name) for spec in wanted}
    summary = _summarise(wanted, played, seed=settings.run.seed)
    for spec, row in zip(wanted, summary["policies"], strict=True):
        if usage := stage.read_json(_USAGE).get(spec.name):
            row["usage"] = usage
    write_whole(stage.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def plan_evaluation(settings: Settings, *, now: datetime) -> list[EvalSpec]:
    """Find and check all policies; returns what is played, in the order of the table.

    Raises:
        UserError: One of them is not there, or does not fit.
    """
    entries = list({parse_entry(text): None for text in settings.evaluate.policies})
    names = name_entries(entries)
    specs = []
    for entry in entries:
        sampling: Sampling = "greedy" if entry.is_greedy else "temperature 1"
        if entry.kind == "script":
            sampling = "scripted"
        num_samples = settings.evaluate.num_samples if sampling == "temperature 1" else 1
        source = find_source(settings, entry, now=now)
        specs.append(EvalSpec(names[entry.policy], entry.policy, source, sampling, num_samples))
    return specs


def check_endpoints(wanted: Sequence[EvalSpec], *, key: str | None) -> None:
    """Refuse servers that cannot be asked, before anything is played.

    Raises:
        UserError: One cannot be reached, refuses the key, or has no such model.
    """
    for spec in wanted:
        if spec.source.kind == "endpoint":
            Endpoint(*split_address(spec.written), key=key).check()


def is_summarised(stage: StageDir, wanted: Sequence[EvalSpec]) -> bool:
    """Tell whether the summary that is there is of just these policies, and of what is there."""
    files = [stage.episode_file(spec.name) for spec in wanted]
    if not stage.is_done() or not all(path.is_file() for path in files):
        return False
    rows = stage.read_json("summary.json")["policies"]
    return [(row["name"], row["sampling"]) for row in rows] == [
        (spec.policy, spec.sampling) for spec in wanted
    ]


def check_unchanged(settings: Settings, stage: StageDir, wanted: Sequence[EvalSpec]) -> None:
    """Refuse to go on with episodes of something that has changed since they were played.

    Raises:
        UserError: The weights behind a name, or the settings of the evaluation, are others now.
    """
    played = stage.read_json("played.json")
    for spec in wanted:
        path = stage.episode_file(spec.name)
        before, now = played.get(spec.name), _describe(settings, spec)
        if before is None or not path.is_file():
            continue
        new = ContextSettings().model_dump(mode="json")  # what has no value there was not yet there
        before = {**before, "context": {**new, **before["context"]}}
        if before == now:
            continue
        raise UserError(
            f"{spec.name} has changed since its episodes were played",
            got="; ".join(list_changes(before, now))[:300],
            remedy=f"delete {path} to play it again, or --clean to play all again",
        )


def _describe(settings: Settings, spec: EvalSpec) -> dict[str, Any]:
    """Return what the episodes of one policy depend on."""
    evaluation = settings.evaluate
    return {
        "policy": spec.written,
        "weights": spec.source.digest,
        "tasks": stage_dir(settings, "tasks").digest(),
        "evaluate": {"split": evaluation.split, "num_tasks": evaluation.num_tasks},
        "num_samples": spec.num_samples,
        "context": settings.context.model_dump(mode="json"),
        "prompt": settings.prompt.model_dump(mode="json"),
        "difficulty": {name: list(bounds) for name, bounds in settings.tasks.difficulty.items()},
        "seed": settings.run.seed,
    }


def _write_played(settings: Settings, stage: StageDir, spec: EvalSpec) -> None:
    _keep(stage, "played.json", spec.name, _describe(settings, spec))


def _keep(stage: StageDir, file: str, name: str, value: object) -> None:
    """Put what belongs to one policy into a file of all."""
    kept = {**stage.read_json(file), name: value}
    write_whole(stage.path / file, json.dumps(kept, indent=2) + "\n")


def keep_tokenizer(stage: StageDir, spec: EvalSpec, now: datetime) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a policy's prompts, kept for a resume on another day."""
    is_own = spec.source.kind in ("model", "endpoint")
    folder = stage.path / "tokenizers" / (spec.policy if is_own else "run")
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    tokenizer = spec.source.load_tokenizer(now=now)
    if stage.is_main and (is_own or saved_tokenizer(spec.source.settings) is None):
        tokenizer.save_pretrained(str(folder))
    return tokenizer


def _write_usage(stage: StageDir, spec: EvalSpec, endpoint: Endpoint) -> None:
    """Keep and say what an endpoint has cost all processes; of interrupted plays only the last."""
    total = Usage()
    for usage in gather_object([endpoint.usage]):
        total.add(usage)
    if stage.is_main:
        _keep(stage, _USAGE, spec.name, asdict(total))
        say(f"{spec.name}: {total.describe()}")


def _play(
    settings: Settings,
    stage: StageDir,
    spec: EvalSpec,
    tokenizer: PreTrainedTokenizerFast,
    endpoint: Endpoint | None = None,
) -> list[Episode]:
    """Play one policy on the front of the held-out split."""
    asked = settings.evaluate
    with open_runner(settings, tokenizer=tokenizer) as runner:
        task_ids = [task.id for task in runner.store.split(asked.split)][: asked.num_tasks]
        requests = runner.draw_requests(task_ids, stage="evaluate", group_size=spec.num_samples)
        keep_windows(runner, stage, requests)
        what, mine = f"evaluate {spec.name}", take_share(requests)
        with Progress(what, total=len(mine), unit="episodes", enabled=stage.is_main) as progress:
            most, is_greedy = settings.grpo.generation_batch, spec.sampling == "greedy"
            if endpoint:
                sampler = EndpointSampler(
                    endpoint,
                    runner.chat,
                    max_new_tokens=settings.context.max_new_tokens,
                    max_rows=most,
                    greedy=is_greedy,
                )
                play = partial(
                    runner.play_all,
                    make_policy=partial(_ask, sampler),
                    concurrency=most,
                    sampler=sampler,
                )
            elif spec.source.kind == "script":
                make_script = partial(make_script_of, runner, spec.policy)
                play = partial(runner.play_all, make_policy=make_script, concurrency=most)
            else:
                model = spec.source.load_for_acting(tokenizer)
                play = partial(runner.play_model, model=model, greedy=is_greedy)
            return share(requests, partial(play, policy=spec.policy, on_episode=progress.advance))


def keep_windows(
    runner: RolloutRunner, stage: StageDir, requests: Sequence[EpisodeRequest]
) -> None:
    """Write what the windows of an evaluation are, or compare them with those of the first policy.

    Raises:
        UserError: They follow from least peaks, which another tokenizer counts otherwise, or from
            settings that have changed.
    """
    peaks, path = runner.windows.peaks, stage.path / _WINDOWS
    drawn = {request.task_id: request.window_tokens for request in requests}
    kept = stage.read_json(_WINDOWS)
    is_other = bool(kept) and kept["windows"] != drawn
    if is_other and kept["counted_by"] != peaks.key:
        raise UserError(
            "windows that follow from least peaks differ between tokenizers",
            got=f"{stage.path.name}: another tokenizer, template, prompt, limit or version of the "
            f"readers than {path} was made by",
            remedy="give absolute windows, --context.window_tokens '[LOW, HIGH]', and no "
            "context.needs_rewrite_share, or --clean to play all policies anew",
        )
    if is_other:
        raise UserError(
            "the windows of this evaluation have changed",
            got=f"other ones than {path} holds, in which policies were played",
            remedy="go back to the settings of before, or --clean to play all policies anew",
        )
    if not kept and stage.is_main:
        tasks = {name: asdict(peaks.of(name)) for name in drawn}
        found = {"counted_by": peaks.key, "windows": drawn, "tasks": tasks}
        write_whole(path, to_json(found, indent=2) + "\n")


def _ask(sampler: EndpointSampler, request: EpisodeRequest) -> Policy:
    return sampler.policy(seed=request.seed, group=request.group_id)


def make_script_of(runner: RolloutRunner, name: str, request: EpisodeRequest) -> ScriptedPolicy:
    """Return the script that plays an episode: one of habits draws them by its seed."""
    options, context = None, runner.settings.context
    if name in ("careful", "wasteful"):
        rng = random.Random(request.seed)
        habit = draw_habit(
            name,  # type: ignore[arg-type]
            rng=rng,
            needs_rewrite=runner.windows.needs_rewrite(request.task_id, request.window_tokens),
            tools=list_tools(context.strategy, context.without),
            num_sites=runner.store.public[request.task_id].difficulty.sites,
        )
        options = draw_options(habit, rng=rng)
    return runner.make_script(request.task_id, name, options=options)


def _summarise(
    wanted: Sequence[EvalSpec], episodes: Mapping[str, Sequence[Episode]], *, seed: int
) -> dict[str, Any]:
    """Return the content of `summary.json`: a row per policy, and some against others."""
    rows = [
        summarize(episodes[spec.name], name=spec.policy, sampling=spec.sampling, seed=seed)
        for spec in wanted
    ]
    comparisons = [
        compare(episodes[first], episodes[second], first_name=first, second_name=second, seed=seed)
        for first, second in _pair_up(wanted)
    ]
    return {"schema_version": 1, "policies": rows, "comparisons": comparisons}


def _pair_up(wanted: Sequence[EvalSpec]) -> list[tuple[str, str]]:
    """Return which are compared: sft with grpo, and what folders hold with the first policy.

    Only those that are sampled alike, and no scripts.
    """
    pairs: list[tuple[str, str]] = []
    for sampling in ("temperature 1", "greedy"):
        alike = [spec for spec in wanted if spec.sampling == sampling]
        named = {spec.policy: spec.name for spec in alike}
        if "sft" in named and "grpo" in named:
            pairs.append((named["sft"], named["grpo"]))
        for spec in alike[1:]:
            if {alike[0].source.kind, spec.source.kind} != {"of_the_run"}:
                pairs.append((alike[0].name, spec.name))
    return pairs
