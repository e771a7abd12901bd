"""`tightrope demos`: executes demonstrations and keeps the solved ones.

    tightrope demos --config configs/tiny.yaml
    tightrope demos --tasks tasks/mine
    tightrope demos --config configs/qwen3b.yaml --teacher http://127.0.0.1:8000/v1#Qwen/Qwen3-32B
    tightrope demos --config configs/qwen3b.yaml --run.name again --policy runs/qwen3b/grpo/adapter

By scripts with habits, unless a teacher (an OpenAI-compatible chat server, its key in
$TIGHTROPE_ENDPOINT_KEY) or a policy of one's own is named: those are sampled on tasks of the split
train alone, and what solves is kept. How: docs/demonstrations.md.

Also puts the run's tokenizer beside them: trained on the task texts for the tiny model, else the
base model's own. Of a task set alone one is played for each task, train tasks if it has some.
"""

import json
import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from envs.errors import UserError
from envs.files import to_json, write_whole
from envs.records import SPLITS, Episode, Split
from train.config.load import TASKS, Command, Flag, parse_command
from train.config.policy_names import KEY_VARIABLE
from train.config.set_alone import choose_split, describe_counting
from train.config.settings import Settings
from train.stages.open_stage import list_changes, open_stage, require
from train.stages.progress import Progress
from train.stages.run_dir import StageDir, stage_dir
from train.stages.stage_log import keep_log, say, terminal

_ORIGIN = "sampled_from.json"  # of demonstrations that a model is asked for
_FLAGS = [
    Flag("--teacher", f"URL or URL#MODEL of a chat server to sample (key: ${KEY_VARIABLE})"),
    Flag("--policy", "folder of an adapter or a model to sample", kind=Path),
    Flag("--samples", "most episodes per task of a teacher or policy", int, 4, least=1),
    Flag("--per-minute", "most requests to a teacher in a minute", float, least=0.1),
    TASKS,
]


def main(argv: list[str]) -> int:
    """Run the stage; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope demos",
        description="Execute demonstrations in the real environment; keep the solved ones.",
        example="tightrope demos --config configs/tiny.yaml",
        flags=_FLAGS,
    )
    settings, split = command.settings, SPLITS[0]
    origin = describe_origin(command)
    if command.config is None and origin is None:
        split, _ = choose_split(Path(settings.tasks.dir or "."), SPLITS)
        say(f"{describe_counting(settings)}\nplayed: {split} tasks")
    tasks = require(settings, "tasks", experiment=command.experiment)
    if settings.model.kind != "tiny":
        from train.models.model import base_source

        base_source(settings)  # a base that cannot be had leaves no trace of the stage
    acting = None  # nor does a teacher or a policy
    if origin is not None and is_asked(command):
        acting, origin["acting"] = find_acting(command)
    if command.resume:
        check_origin(stage_dir(settings, "demos"), origin)
    stage = open_stage(
        settings,
        "demos",
        resume=command.resume,
        clean=command.clean,
        inputs=[tasks],
        dry_run=command.dry_run,
    )
    if command.dry_run:
        show(settings, stage, origin)
        return 0
    keep_log(stage.path)
    if not stage.is_done():
        from train.rollouts.rejection import forget_journals

        if origin is not None:
            write_whole(stage.path / _ORIGIN, to_json(origin, indent=2) + "\n")
        facts, episodes = (
            run(settings, stage, split=split) if acting is None else sample(command, stage, acting)
        )
        print_habits(stage, episodes)
        stage.finish(facts, output=stage.episode_file("demonstrations"))
        forget_journals(stage.path)
    print(stage.episode_file("demonstrations"))
    return 0


def describe_origin(command: Command) -> dict[str, Any] | None:
    """Return what sampled demonstrations depend on; None for those of scripts.

    Beside the task set, which the stage knows, and whoever acts, who must be asked.

    Raises:
        UserError: The flags contradict each other.
    """
    teacher, policy = command.flags["teacher"], command.flags["policy"]
    if teacher and policy:
        raise UserError("--teacher and --policy contradict each other", remedy="give one of them")
    if command.flags["per_minute"] and not teacher:
        raise UserError("--per-minute is for requests to a --teacher", remedy="leave it out")
    if not teacher and not policy:
        return None
    settings = command.settings
    whole = settings.model_dump(mode="json")
    return {
        "teacher": teacher,
        "policy": policy and str(policy),
        "samples": command.flags["samples"],
        "seed": settings.run.seed,
        "model": {name: whole["model"][name] for name in ("base", "chat_template")},
        "prompt": whole["prompt"],
        "tasks": {name: whole["tasks"][name] for name in ("difficulty", "recorded_calls")},
        "context": whole["context"],
        "largest_window": settings.largest_window,
        "needs_rewrite_share": settings.sft.needs_rewrite_share,
    }


def is_asked(command: Command) -> bool:
    """Tell whether who acts is to be found: of finished demonstrations the server may be gone."""
    policy = command.flags["policy"]
    is_done = stage_dir(command.settings, "demos").is_done()
    return command.clean or not is_done or (policy is not None and policy.exists())


def check_origin(stage: StageDir, origin: dict[str, Any] | None) -> None:
    """Refuse to go on with demonstrations of another origin.

    Raises:
        UserError: They are of another teacher, say, or of scripts.
    """
    before, given = stage.read_json(_ORIGIN), origin or {}
    if not stage.is_done() and not before:
        return
    if stage.is_done() and before and given:  # who acted may be gone, and older ones noted less
        names = before.keys() & given.keys()
        before, given = ({name: each[name] for name in names} for each in (before, given))
    if changes := list_changes(before, given):
        raise UserError(
            f"{stage.path} holds demonstrations of another origin",
            got="; ".join(changes)[:300],
            remedy="repeat the command that began it, or --clean to make all anew",
        )


def show(settings: Settings, stage: StageDir, origin: dict[str, Any] | None) -> None:
    """Go as far as the first demonstration, with a tokenizer that does not stay."""
    from train.models.model import load_tokenizer
    from train.rollouts.runner import open_runner

    with TemporaryDirectory() as scratch:
        draft = StageDir(Path(scratch), "demos")
        make_tokenizer(settings, draft, now=datetime.now())
        with open_runner(settings, tokenizer=load_tokenizer(draft.path / "tokenizer")):
            pass
    sft = settings.sft
    tight = f"{sft.needs_rewrite_share:.0%} in windows that need a rewrite"
    if origin:
        print(
            f"would sample {origin['teacher'] or origin['policy']} on train tasks until "
            f"{sft.num_demonstrations} are solved ({tight}), at most {origin['samples']} times "
            f"each, and write {stage.path}"
        )
        return
    print(
        f"would play scripts until {sft.num_demonstrations} are solved "
        f"({sft.wasteful_share:.0%} wasteful, {tight}) and write {stage.path}"
    )


def run(
    settings: Settings, stage: StageDir, *, split: Split
) -> tuple[dict[str, Any], list[Episode]]:
    """Make tokenizer and demonstrations on tasks of a split; returns facts, and what was made."""
    from train.rollouts.demonstrations import list_tight, make_demonstrations
    from train.rollouts.runner import open_runner

    make_tokenizer(settings, stage, now=datetime.now())
    total = settings.sft.num_demonstrations
    with open_runner(settings) as runner:
        list_tight(runner, runner.store.split(split))  # has a progress line of its own
        with Progress("demonstrations", total=total, unit="solved") as progress:
            result = make_demonstrations(runner, split=split, on_solved=progress.advance)
    if result.num_unmet:
        say(
            f"{result.num_unmet:,} of them ask for a window that needs a rewrite, and no task has "
            "one: they were made in others (docs/windows.md)"
        )
    say(
        f"{result.num_played:,} played, {len(result.episodes):,} kept; {result.num_unseen:,} "
        "solved ones refused: they edit lines that no view had shown"
    )
    stage.write_episodes("demonstrations", result.episodes)
    facts = {
        "num_played": result.num_played,
        "num_kept": len(result.episodes),
        "num_refused_unseen": result.num_unseen,
        "waste_ratio": result.measure_waste_ratio(),
    }
    return facts, result.episodes


def find_acting(command: Command) -> tuple[Any, str]:
    """Return the endpoint of the teacher, or the policy's source and its tokenizer.

    Beside it what tells it from others: the name of the model, or a digest of the weights.

    Raises:
        UserError: It cannot be had.
    """
    flags = command.flags
    if flags["teacher"]:
        from train.servers.chat import open_endpoint

        key = os.environ.get(KEY_VARIABLE)
        endpoint = open_endpoint(flags["teacher"], key=key, per_minute=flags["per_minute"])
        return endpoint, endpoint.model
    from train.rollouts.policy_sources import find_own_policy

    found = find_own_policy(command.settings, flags["policy"], now=datetime.now())
    return found, found[0].digest


def sample(command: Command, stage: StageDir, acting: Any) -> tuple[dict[str, Any], list[Episode]]:
    """Sample demonstrations of a teacher or a policy; returns facts, and what was kept."""
    from train.rollouts.teachers import sample_policy, sample_teacher

    settings, flags, facts = command.settings, command.flags, dict[str, Any]()
    wanted = settings.sft.num_demonstrations
    with Progress("demonstrations", unit="played") as progress:

        def note(num_played: int, num_kept: int) -> None:
            progress.update(num_played, note=f"{num_kept:,} of {wanted:,} kept")

        options: Any = {"num_samples": flags["samples"], "on_played": note}
        if flags["teacher"]:
            result = sample_teacher(settings, stage, acting, now=datetime.now(), **options)
            facts["usage"] = asdict(acting.usage)
        else:
            result = sample_policy(settings, stage, *acting, **options)
    refused = ", ".join(f"{number:,} {why}" for why, number in sorted(result.faults.items()))
    say(
        f"{result.num_played:,} played, {len(result.episodes):,} kept; not kept: "
        f"{refused or 'none'}"
    )
    num_tight = sum(episode.needs_rewrite for episode in result.episodes)
    if len(result.episodes) < wanted or num_tight < result.num_rewrite_wanted:
        say(
            f"{len(result.episodes):,} of {wanted:,} wanted; in windows that need a rewrite "
            f"{num_tight:,} of {result.num_rewrite_wanted:,}"
        )
    if result.num_broken:
        say(f"{result.num_broken:,} could not be scored, and are not among them")
    if not result.episodes:
        raise UserError(
            "nothing was solved, so there is nothing to learn from",
            got=f"{result.num_played} episodes on train tasks",
            remedy="--clean, with another teacher or more --samples, or larger windows",
        )
    stage.write_episodes("demonstrations", result.episodes)
    facts |= {
        "num_played": result.num_played,
        "num_kept": len(result.episodes),
        "not_kept": result.faults,
        "num_broken": result.num_broken,
    }
    return facts, result.episodes


def print_habits(stage: StageDir, episodes: list[Episode]) -> None:
    """Print what was made by habit, and write it beside the demonstrations."""
    from rich.console import Console
    from rich.table import Table

    from train.rollouts.habit_table import COLUMNS, format_cells, tabulate_habits

    rows = tabulate_habits(episodes)
    write_whole(stage.path / "habits.json", json.dumps(rows, indent=2) + "\n")
    table = Table(*COLUMNS.values(), title="demonstrations by habit (means per episode)")
    for row in rows:
        table.add_row(*format_cells(row))
    screen = terminal()  # standard output has the path alone
    Console(file=screen, width=None if screen.isatty() else 160).print(table)


def make_tokenizer(settings: Settings, stage: StageDir, *, now: datetime) -> None:
    """Write the run's tokenizer with its chat template, in which `now` is the date for good."""
    from train.models.vocabulary import new_tokenizer

    new_tokenizer(settings, now=now).save_pretrained(str(stage.path / "tokenizer"))
