"""`tightrope demos`: executes scripted demonstrations and keeps the solved ones.

    tightrope demos --config configs/tiny.yaml
    tightrope demos --tasks tasks/mine

Also puts the run's tokenizer beside them: trained on the task texts for the tiny model, else the
base model's own. Of a task set alone one is played for each task, train tasks if it has some.
"""

from collections import Counter
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from envs.records import SPLITS, Split
from train.config.load import TASKS, parse_command
from train.config.set_alone import choose_split, describe_counting
from train.config.settings import Settings
from train.stages.open_stage import open_stage, require
from train.stages.progress import Progress
from train.stages.run_dir import StageDir
from train.stages.stage_log import keep_log, say


def main(argv: list[str]) -> int:
    """Run the stage; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope demos",
        description="Execute demonstrations in the real environment; keep the solved ones.",
        example="tightrope demos --config configs/tiny.yaml",
        flags=[TASKS],
    )
    settings, split = command.settings, SPLITS[0]
    if command.config is None:
        split, _ = choose_split(Path(settings.tasks.dir or "."), SPLITS)
        say(f"{describe_counting(settings)}\nplayed: {split} tasks")
    tasks = require(settings, "tasks", experiment=command.experiment)
    if settings.model.kind != "tiny":
        from train.models.model import base_source

        base_source(settings)  # a base that cannot be had leaves no trace of the stage
    stage = open_stage(
        settings,
        "demos",
        resume=command.resume,
        clean=command.clean,
        inputs=[tasks],
        dry_run=command.dry_run,
    )
    if command.dry_run:
        show(settings, stage)
        return 0
    keep_log(stage.path)
    if not stage.is_done():
        stage.finish(run(settings, stage, split=split), output=stage.episode_file("demonstrations"))
    print(stage.episode_file("demonstrations"))
    return 0


def show(settings: Settings, stage: StageDir) -> None:
    """Go as far as the first demonstration, with a tokenizer that does not stay."""
    from train.models.model import load_tokenizer
    from train.rollouts.runner import open_runner

    with TemporaryDirectory() as scratch:
        draft = StageDir(Path(scratch), "demos")
        make_tokenizer(settings, draft, now=datetime.now())
        with open_runner(settings, tokenizer=load_tokenizer(draft.path / "tokenizer")):
            pass
    sft = settings.sft
    print(
        f"would play scripts until {sft.num_demonstrations} are solved "
        f"({sft.wasteful_share:.0%} wasteful, {sft.needs_rewrite_share:.0%} in windows that need a "
        f"rewrite) and write {stage.path}"
    )


def run(settings: Settings, stage: StageDir, *, split: Split) -> dict[str, Any]:
    """Make tokenizer and demonstrations on tasks of a split; returns facts about them."""
    from rewards.cost import billed_tokens, num_compactions, num_evictions
    from train.rollouts.demonstrations import make_demonstrations
    from train.rollouts.runner import open_runner

    make_tokenizer(settings, stage, now=datetime.now())
    total = settings.sft.num_demonstrations
    with (
        open_runner(settings) as runner,
        Progress("demonstrations", total=total, unit="solved") as progress,
    ):
        progress.update(0)
        result = make_demonstrations(runner, split=split, on_solved=progress.advance)
    episodes = result.episodes
    if result.num_unmet:
        say(
            f"{result.num_unmet:,} of them ask for a window that needs a rewrite, and no task has "
            "one: they were made in others (docs/windows.md)"
        )
    say(
        f"{result.num_played:,} played, {len(episodes):,} kept; {result.num_unseen:,} solved ones "
        "refused: they edit lines that no view had shown"
    )
    stage.write_episodes("demonstrations", episodes)
    return {
        "num_played": result.num_played,
        "num_kept": len(episodes),
        "num_refused_unseen": result.num_unseen,
        "kinds": dict(Counter(episode.policy for episode in episodes)),
        "needs_rewrite_share": sum(episode.needs_rewrite for episode in episodes) / len(episodes),
        "evictions": sum(map(num_evictions, episodes)),
        "compactions": sum(map(num_compactions, episodes)),
        "billed_tokens_mean": sum(map(billed_tokens, episodes)) / len(episodes),
        "waste_ratio": result.measure_waste_ratio(),
    }


def make_tokenizer(settings: Settings, stage: StageDir, *, now: datetime) -> None:
    """Write the run's tokenizer with its chat template, in which `now` is the date for good."""
    from train.models.vocabulary import new_tokenizer

    new_tokenizer(settings, now=now).save_pretrained(str(stage.path / "tokenizer"))
