"""Forks the episodes of an evaluation, and writes what rewriting was worth at their turns.

    RUN/fork/NAME.jsonl      a row per fork of a policy's episodes, as its branches are whole
             forked.json     by policy, what they were made of
             summary.json    what they amount to (docs/fork.md)

What is there is not played again: a command that was killed goes on where it was, and one that asks
for more forks plays the others. In one process.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from envs.errors import UserError
from envs.files import append_row, hash_file, read_rows, take_up_rows, to_json, write_whole
from envs.records import Episode
from envs.tools import REWRITES, list_tools
from rewards.timing import (
    Fork,
    compare_timing,
    pool_differences,
    pool_seeds,
    summarize_timing,
    weigh,
)
from train.config.policy_names import GREEDY_NAME, parse_entry
from train.config.settings import Settings
from train.forks.branches import Branch, BranchPlayer, Played, list_branches, measure
from train.forks.points import ForkPoint, draw_points, list_points
from train.forks.turns import ForkedTurn, SampledTurn, ScriptedTurn
from train.rollouts.backend import make_sampler
from train.rollouts.concurrency import Sampler, count_tool_workers, run_bounded
from train.rollouts.evaluate import EvalSpec, check_unchanged, keep_tokenizer, make_script_of
from train.rollouts.policy_sources import find_source
from train.rollouts.requests import EpisodeRequest, draw_seed
from train.rollouts.runner import RolloutRunner, open_runner
from train.stages.progress import Progress
from train.stages.run_dir import StageDir

_FORKED = "forked.json"
_DEFAULT = ("sft", "grpo")  # before the training and after it


@dataclass(frozen=True)
class ForkPlan:
    """How much is played.

    Attributes:
        num_forks: Of each policy, at most.
        num_samples: Branches of each arm of a fork.
        least_fill: Turns with a lower fill are not forked.
    """

    num_forks: int
    num_samples: int
    least_fill: float


@dataclass(frozen=True)
class Forked:
    """What the forks of a run amount to: the content of summary.json, and the forks by policy."""

    summary: dict[str, Any]
    forks: dict[str, list[Fork]]


def find_policies(
    settings: Settings, evaluated: StageDir, names: Sequence[str] | None, *, now: datetime
) -> list[EvalSpec]:
    """Find the policies whose episodes are forked, as they were when they were played.

    Args:
        settings: Those of the evaluation.
        evaluated: Where it is.
        names: Of files of episodes; by default the warm start's and GRPO's.
        now: The date in chat templates that no stage has fixed yet.

    Raises:
        UserError: There are no such episodes, they cannot be forked, or who played them has
            changed.
    """
    context = settings.context
    if not {*REWRITES} & {*list_tools(context.strategy, context.without)}:
        raise UserError(
            "the policies of this run rewrite nothing themselves",
            got=f"context.strategy {context.strategy}",
            remedy="fork a run under learned or learned_net",
        )
    there, played = evaluated.list_episodes(), evaluated.read_json("played.json")
    wanted = list(dict.fromkeys(names or [name for name in _DEFAULT if name in there]))
    can = [name for name in there if name in played and not name.endswith(GREEDY_NAME)]
    if not wanted or not {*wanted} <= {*can}:
        wrong = ", ".join(name for name in wanted if name not in can)
        raise UserError(
            f"{evaluated.episodes} holds no episodes of this policy that can be forked",
            got=wrong or "none of sft or grpo",
            remedy=f"--policies with some of {', '.join(can)}, or tightrope evaluate"
            if can
            else "play some with this version: tightrope evaluate with --clean",
        )
    specs = []
    for name in wanted:
        written = str(played[name]["policy"])
        source = find_source(settings, parse_entry(written), now=now)
        if source.kind == "endpoint":
            remedy = "fork a policy that is sampled by token ids"
            raise UserError("an endpoint's turns cannot be begun for it", got=name, remedy=remedy)
        sampling = "scripted" if source.kind == "script" else "temperature 1"
        num = played[name]["num_samples"]
        specs.append(EvalSpec(name, written, source, sampling, num))  # type: ignore[arg-type]
    check_unchanged(settings, evaluated, specs)
    return specs


def check_forked(
    settings: Settings,
    evaluated: StageDir,
    stage: StageDir,
    specs: Sequence[EvalSpec],
    plan: ForkPlan,
) -> None:
    """Refuse to go on with forks of other episodes, or with another number of samples.

    Raises:
        UserError: They have changed since.
    """
    before = stage.read_json(_FORKED)
    for spec in specs:
        now = _describe(settings, evaluated, spec, plan)
        then, has_rows = before.get(spec.name, now), _row_file(stage, spec).is_file()
        if has_rows and then != now:
            changed = ", ".join(name for name in now if now[name] != then.get(name))
            raise UserError(
                f"{stage.path} holds forks of other episodes of {spec.name}, or played otherwise",
                got=f"changed since: {changed}",
                remedy="go back to what it was, or --clean to fork anew",
            )


def fork(
    settings: Settings,
    evaluated: StageDir,
    stage: StageDir,
    specs: Sequence[EvalSpec],
    plan: ForkPlan,
    *,
    now: datetime,
) -> Forked:
    """Play the branches that are missing and write the summary.

    Raises:
        UserError: A saved episode is not what would be played today.
    """
    forked = stage.read_json(_FORKED)
    forked |= {spec.name: _describe(settings, evaluated, spec, plan) for spec in specs}
    write_whole(stage.path / _FORKED, to_json(forked, indent=2) + "\n")
    found = {
        spec.name: _fork_policy(settings, evaluated, stage, spec, plan, now=now) for spec in specs
    }
    first, seed = specs[0].name, settings.run.seed
    summary = {
        "schema_version": 1,
        "num_samples": plan.num_samples,
        "least_fill": plan.least_fill,
        "reward": settings.reward.model_dump(mode="json"),
        "policies": [
            {"name": spec.name, "sampling": spec.sampling}
            | found[spec.name].counts
            | summarize_timing(found[spec.name].forks, seed=seed)
            for spec in specs
        ],
        "comparisons": [
            {"first": first, "second": spec.name}
            | compare_timing(found[first].forks, found[spec.name].forks, seed=seed)
            for spec in specs[1:]
        ],
    }
    write_whole(stage.path / "summary.json", to_json(summary, indent=2) + "\n")
    return Forked(summary, {name: each.forks for name, each in found.items()})


def pool(of_runs: Sequence[Forked]) -> dict[str, Any]:
    """Return what several runs, such as training seeds, say together of the policies of all."""
    names = [name for name in of_runs[0].forks if all(name in run.forks for run in of_runs)]
    found = {name: [run.forks[name] for run in of_runs] for name in names}
    return {
        "policies": [{"name": name} | pool_seeds(found[name]) for name in names],
        "comparisons": [
            {"first": names[0], "second": name}
            | pool_differences(list(zip(found[names[0]], found[name], strict=True)))
            for name in names[1:]
        ],
    }


@dataclass(frozen=True)
class _PolicyForks:
    """The forks of one policy, and how many turns there were, were rewritten, had no value."""

    forks: list[Fork]
    counts: dict[str, int]


def _fork_policy(
    settings: Settings,
    evaluated: StageDir,
    stage: StageDir,
    spec: EvalSpec,
    plan: ForkPlan,
    *,
    now: datetime,
) -> _PolicyForks:
    """Draw the forks of a policy, play those that are missing, and read all."""
    episodes, context = evaluated.read_episodes(spec.name), settings.context
    points = list_points(
        episodes,
        max_turns=context.max_turns,
        max_new_tokens=context.max_new_tokens,
        least_fill=plan.least_fill,
    )
    seed = draw_seed(settings.run.seed, "fork", spec.name)
    drawn = draw_points(points, num=plan.num_forks, seed=seed)
    path = _row_file(stage, spec)
    missing = _list_missing(drawn, path)
    if missing:
        num_done = len(drawn) - len(missing)
        with _open_player(settings, evaluated, spec, episodes, now=now) as (player, sampler):
            _play(player, sampler, missing, plan, path, name=spec.name, num_done=num_done)
    found = _read_forks(path, drawn)
    num_rewritten = sum(point.rewrote for point in points)
    counts = {
        "num_possible": len(points),
        "num_rewritten": num_rewritten,
        "num_dropped": len(drawn) - len(found),
    }
    num_others = len(points) - num_rewritten
    return _PolicyForks(weigh(found, num_rewrote=num_rewritten, num_others=num_others), counts)


def _describe(
    settings: Settings, evaluated: StageDir, spec: EvalSpec, plan: ForkPlan
) -> dict[str, Any]:
    """Return what the rows of a policy depend on besides the fork."""
    return {
        "episodes": hash_file(evaluated.episode_file(spec.name)),
        "num_samples": plan.num_samples,
        "reward": settings.reward.model_dump(mode="json"),
    }


def _row_file(stage: StageDir, spec: EvalSpec) -> Path:
    return stage.path / f"{spec.name}.jsonl"


def _list_missing(drawn: Sequence[ForkPoint], path: Path) -> list[ForkPoint]:
    done = {(row["episode"], row["turn"]) for row in take_up_rows(path)}
    return [point for point in drawn if (point.episode, point.turn) not in done]


@contextmanager
def _open_player(
    settings: Settings,
    evaluated: StageDir,
    spec: EvalSpec,
    episodes: Sequence[Episode],
    *,
    now: datetime,
) -> Iterator[tuple[BranchPlayer, Sampler | None]]:
    """Open what plays branches of a policy, and its sampler, if it is no script.

    Raises:
        UserError: The task set has not all tasks of the episodes.
    """
    tokenizer, most = keep_tokenizer(evaluated, spec, now), settings.context.max_new_tokens
    with open_runner(settings, tokenizer=tokenizer) as runner:
        missing = sorted({each.task_id for each in episodes} - runner.store.public.keys())
        if missing:
            raise UserError(
                f"{runner.store.folder} lacks tasks of the episodes",
                got=f"{len(missing)}, such as {missing[0]}",
                remedy="name the set that they were played on in tasks.dir",
            )
        if spec.source.kind == "script":
            yield BranchPlayer(runner, episodes, partial(_open_script, runner, spec.policy)), None
            return
        model = spec.source.load_for_acting(tokenizer)
        sampler = make_sampler(model, runner.chat, settings)

        def open_turn(saved: Episode, seed: int) -> ForkedTurn:
            policy = sampler.policy(seed=seed, group=f"{saved.group_id}/{saved.sample_index}")
            return SampledTurn(policy, runner.chat, most)

        yield BranchPlayer(runner, episodes, open_turn, sampler.forget), sampler


def _open_script(runner: RolloutRunner, name: str, saved: Episode, seed: int) -> ForkedTurn:
    """Return the script that played an episode; its habits were drawn by the episode's seed."""
    del seed
    request = EpisodeRequest(
        task_id=saved.task_id,
        group_id=saved.group_id,
        sample_index=saved.sample_index,
        window_tokens=saved.window_tokens,
        seed=saved.seed,
    )
    script = make_script_of(runner, name, request)
    return ScriptedTurn(script, runner.chat, runner.settings.context.max_new_tokens)


def _play(
    player: BranchPlayer,
    sampler: Sampler | None,
    points: Sequence[ForkPoint],
    plan: ForkPlan,
    path: Path,
    *,
    name: str,
    num_done: int,
) -> None:
    """Play all branches of some forks, and append the row of each that is whole."""
    settings, num_each = player.runner.settings, 2 * plan.num_samples
    branches = [
        branch for point in points for branch in list_branches(point, num_samples=plan.num_samples)
    ]
    played: dict[ForkPoint, list[Played]] = {point: [] for point in points}
    concurrency = settings.grpo.generation_batch
    if sampler:
        waiting = 0 if sampler.in_waves else count_tool_workers(settings)
        concurrency = sampler.max_rows + waiting
    total = num_each * num_done + len(branches)
    progress = Progress(f"fork {name}", total=total, unit="branches")
    progress.update(num_each * num_done)
    with progress:

        async def play(branch: Branch) -> None:
            mine = played[branch.point]
            mine.append(await player.play(branch))
            progress.advance()
            if len(mine) == num_each:
                append_row(path, measure(mine, settings))

        run_bounded(play, branches, concurrency=concurrency, sampler=sampler)


def _read_forks(path: Path, drawn: Sequence[ForkPoint]) -> list[Fork]:
    """Return the forks that have a value, in the order of the draw."""
    rows = {(row["episode"], row["turn"]): row for row in read_rows(path)}
    names = [field.name for field in fields(Fork) if field.name != "weight"]
    found = [rows[point.episode, point.turn] for point in drawn]
    return [Fork(**{n: row[n] for n in names}) for row in found if row["value"] is not None]
