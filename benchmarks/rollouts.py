"""Episodes per minute: stock TRL against ours, with the same weights, tasks, tools and sampling.

    python benchmarks/rollouts.py --config configs/tiny.yaml       # demos and sft of the run first
    python benchmarks/rollouts.py --config configs/smollm2.yaml --rounds 3

Both act with the adapter that GRPO starts from, under the strategy `full_history` (TRL has no
other), and take turns; each row has a process of its own, is kept, and is not measured again. Then
whole steps of ours, rollout and update, from 16 to 256 episodes: no step may be more than 15 % off
a straight line in seconds, nor hold 15 % more memory at its peak than the smallest. TRL generates
with Transformers, as ours does, and has no server.

Limits: after an episode has ended TRL samples on until nothing is called, so it may sample more
tokens for one; both numbers are in the table. It has no records, no retries and no deadlines.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.measuring import (
    Row,
    Spec,
    Stopwatch,
    collect,
    estimate_ratio,
    list_commits,
    measure_alone,
    new_parser,
    peak_bytes,
    reset_peak,
    show_ratio,
    watch_engine,
)
from benchmarks.stock_trl import StockEpisode, open_stock, to_inputs
from envs.records import Sampled
from rewards.outcome import is_solved
from train.config.load import load_settings
from train.config.settings import Settings
from train.models.model import load_tokenizer, run_tokenizer, set_up_torch
from train.recipes.grpo import make_starting_model
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import MultiSegmentGRPOTrainer, make_step_dataset
from train.rl.importance import choose_form
from train.rl.step_rollouts import StepRollouts
from train.rollouts.runner import RolloutRunner, open_runner
from train.stages.exit_codes import run_main
from train.stages.progress import Progress
from train.stages.run_dir import StageDir

SIDES = ("stock", "ours")
STEP_SIZES = (16, 32, 64, 128, 256)
GROUP_SIZE = 8
GOAL, MOST_OFF = 3.0, 0.15  # episodes per minute; of a straight line, and of a flat one


def main(argv: list[str]) -> int:
    """Measure what is missing, write the table; the exit code is 1 below the goal."""
    arguments, overrides = parse(argv)
    settings = read_settings(arguments.config, overrides)
    if arguments.one:
        print(json.dumps(measure(settings, json.loads(arguments.one))))
        return 0
    again = ["--config", str(arguments.config), *overrides]
    specs: list[Spec] = [
        {"run": settings.run.name, "what": side, "episodes": arguments.episodes, "round": number}
        for number in range(arguments.rounds)
        for side in SIDES
    ]
    specs += [
        {"run": settings.run.name, "what": "step", "episodes": size, "round": 0}
        for size in STEP_SIZES
        if size <= arguments.largest
    ]
    rows = collect(specs, lambda spec: measure_alone(__file__, spec, *again), kept=arguments.rows)
    text, is_fine = describe(settings, rows)
    out = arguments.out or ROOT / f"benchmarks/results/rollouts_{settings.run.name}.md"
    out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_fine else 1


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments, and the settings that are given beside them."""
    parser = new_parser(__doc__, rows=ROOT / "runs/benchmarks/rollouts.jsonl")
    parser.add_argument("--episodes", type=int, default=64, help="episodes a round")
    parser.add_argument("--largest", type=int, default=256, help="episodes of the largest step")
    return parser.parse_known_args(argv)


def read_settings(config: Path, overrides: Sequence[str]) -> Settings:
    """Return the experiment as both sides play it."""
    fixed = ["--context.strategy=full_history", f"--grpo.group_size={GROUP_SIZE}"]
    fixed += ["--sft.needs_rewrite_share=0", "--grpo.evaluate_every=null"]
    fixed += ["--grpo.updates_per_rollout=1", "--checkpoints.every=100"]
    return load_settings(config, [*overrides, *fixed])


def measure(settings: Settings, spec: Spec) -> Row:
    """Measure one row in this process."""
    set_up_torch(settings)
    how = {"stock": play_stock, "ours": play_ours, "step": take_step}[spec["what"]]
    with tempfile.TemporaryDirectory() as folder, open_runner(settings) as runner:
        return how(runner, Path(folder), num_episodes=spec["episodes"], number=spec["round"])


def draw(runner: RolloutRunner, num_episodes: int, number: int) -> list[Any]:
    """Return the requests of a round, of which none has been played in the round before."""
    tasks = [task.id for task in runner.store.split("train")]
    num_groups = num_episodes // GROUP_SIZE
    start = number * num_groups
    chosen = [tasks[(start + place) % len(tasks)] for place in range(num_groups)]
    return runner.draw_requests(chosen, stage="grpo", step=number, group_size=GROUP_SIZE)


def play_stock(runner: RolloutRunner, folder: Path, *, num_episodes: int, number: int) -> Row:
    """Play with stock TRL: prompts, tool loop and rewards, as its step begins."""
    with ExitStack() as stack:
        model = make_starting_model(runner.settings)
        trainer = open_stock(stack, runner, model, num_episodes=num_episodes, folder=folder)
        watch = stack.enter_context(Stopwatch())
        watch.time(StockEpisode, "_play", "tools")
        watch.time(StockEpisode, "get_reward", "grading")
        watch.time(trainer, "_generate_single_turn", "generation")
        trainer.model.train()
        warm_up = to_inputs(runner, draw(runner, GROUP_SIZE, number + 1))
        trainer._generate_and_score_completions(warm_up)
        inputs = to_inputs(runner, draw(runner, num_episodes, number))
        watch.seconds.clear()
        began = time.perf_counter()
        batch = trainer._generate_and_score_completions(inputs)
        seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "tokens": int((batch["completion_mask"] * batch["tool_mask"]).sum()),
        "solved": trainer._metrics["train"]["rewards/StockEpisode/mean"][-1],
        "parts": dict(watch.seconds),
    }


def play_ours(runner: RolloutRunner, folder: Path, *, num_episodes: int, number: int) -> Row:
    """Play with our runner."""
    del folder
    with watch_engine() as watch:
        model = make_starting_model(runner.settings)
        runner.play_model(draw(runner, GROUP_SIZE, number + 1), model, policy="grpo")
        watch.seconds.clear()
        began = time.perf_counter()
        episodes = runner.play_model(draw(runner, num_episodes, number), model, policy="grpo")
        seconds = time.perf_counter() - began
    sampled = [event for each in episodes for event in each.events if isinstance(event, Sampled)]
    return {
        "seconds": seconds,
        "tokens": sum(len(event.token_ids) for event in sampled),
        "solved": statistics.fmean(map(is_solved, episodes)),
        "parts": dict(watch.seconds),
    }


def take_step(runner: RolloutRunner, folder: Path, *, num_episodes: int, number: int) -> Row:
    """Take a whole step of ours, as the recipe does."""
    grpo = {"groups_per_step": num_episodes // GROUP_SIZE, "max_steps": 1}
    settings = runner.settings.model_copy(
        update={"grpo": runner.settings.grpo.model_copy(update=grpo)}
    )
    model = make_starting_model(settings)
    runner.play_model(draw(runner, GROUP_SIZE, number + 1), model, policy="grpo")  # warms up
    with Progress("step", total=1, unit="steps", enabled=False) as progress:
        trainer = MultiSegmentGRPOTrainer(
            model,
            args=derive_grpo_config(settings, folder),
            train_dataset=make_step_dataset(
                num_steps=1, groups_per_step=settings.grpo.groups_per_step
            ),
            processing_class=load_tokenizer(run_tokenizer(settings)),
            rollouts=StepRollouts(settings, runner, StageDir(folder, "grpo"), progress),
            tokens_per_microbatch=settings.grpo.tokens_per_microbatch,
            importance=choose_form(settings),
        )
        held = reset_peak()
        trainer.train()
    found = trainer.state.log_history[0]
    return {
        "seconds": found["seconds/rollout"] + found["seconds/learn"],
        "rollout": found["seconds/rollout"],
        "learn": found["seconds/learn"],
        "tokens": found["num_sampled_tokens"],
        "held_mb": held / 1e6,
        "peak_mb": peak_bytes() / 1e6,
    }


def describe(settings: Settings, rows: Sequence[Row]) -> tuple[str, bool]:
    """Return the tables, and whether all is as it should be."""
    sides = {side: [row for row in rows if row["spec"]["what"] == side] for side in SIDES}
    steps = [row for row in rows if row["spec"]["what"] == "step"]
    seconds = {side: [row["seconds"] for row in found] for side, found in sides.items()}
    ratio = estimate_ratio(list(zip(seconds["stock"], seconds["ours"], strict=True)))
    num_episodes = sides["ours"][0]["spec"]["episodes"]
    lines = [
        f"# Rollouts: stock TRL and ours, {settings.run.name}",
        "",
        f"`python benchmarks/rollouts.py`: {len(sides['ours'])} rounds of {num_episodes} episodes; "
        f"commit {list_commits(rows)}.",
        "",
        f"Ours plays {show_ratio(ratio)} as many episodes per minute.",
        "",
        "| | Episodes per minute | Sampled tokens of an episode | Tokens per second | Solved "
        "| Where the time goes |",
        "|---|---|---|---|---|---|",
        *(describe_side(side, found) for side, found in sides.items()),
    ]
    is_fine = ratio.value is not None and ratio.value >= GOAL
    if len(steps) > 2:
        more, are_steps_fine = describe_steps(steps)
        lines += ["", *more]
        is_fine &= are_steps_fine
    return "\n".join(lines) + "\n", is_fine


def describe_side(side: str, rows: Sequence[Row]) -> str:
    """Return a side's line: means over its rounds."""
    seconds = sum(row["seconds"] for row in rows)
    tokens = sum(row["tokens"] for row in rows)
    num = sum(row["spec"]["episodes"] for row in rows)
    parts = {
        name: sum(row["parts"].get(name, 0.0) for row in rows) / seconds
        for name in dict.fromkeys(name for row in rows for name in row["parts"])
    }
    parts["the rest"] = 1 - sum(parts.values())
    shown = ", ".join(f"{name} {share:.0%}" for name, share in parts.items())
    solved = statistics.fmean(row["solved"] for row in rows)
    return (
        f"| {side} | {60 * num / seconds:.0f} | {tokens / num:.0f} | {tokens / seconds:.0f} | "
        f"{solved:.0%} | {shown} |"
    )


def describe_steps(rows: Sequence[Row]) -> tuple[list[str], bool]:
    """Return the table of whole steps, and whether time is linear in episodes and memory flat."""
    sizes = [row["spec"]["episodes"] for row in rows]
    fit = statistics.linear_regression(sizes, [row["seconds"] for row in rows])
    off = [
        row["seconds"] / (fit.intercept + fit.slope * size) - 1
        for row, size in zip(rows, sizes, strict=True)
    ]
    grown = max(row["peak_mb"] for row in rows) / rows[0]["peak_mb"] - 1
    is_linear, is_flat = max(map(abs, off)) <= MOST_OFF, grown <= MOST_OFF
    lines = [
        f"Whole steps: {fit.intercept:.1f} s and {fit.slope:.2f} s for each episode; the largest "
        f"step is {off[-1]:+.0%} off this line, the farthest of all {max(off, key=abs):+.0%}: "
        f"time is {'' if is_linear else 'not '}linear within {MOST_OFF:.0%}. The highest peak of "
        f"memory is {grown:+.0%} of that of {sizes[0]} episodes: memory is "
        f"{'' if is_flat else 'not '}flat within {MOST_OFF:.0%}.",
        "",
        "| Episodes | Seconds | of them rollout, update | Per episode | Held, MB | Peak, MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {size} | {row['seconds']:.1f} | {row['rollout']:.1f}, {row['learn']:.1f} | "
        f"{row['seconds'] / size:.2f} | {row['held_mb']:.0f} | {row['peak_mb']:.0f} |"
        for row, size in zip(rows, sizes, strict=True)
    ]
    return lines, is_linear and is_flat


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
