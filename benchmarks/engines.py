"""Generation at 16 episodes: the engine as it was at commit decba2c, and as it is, in turns.

    python benchmarks/engines.py --config configs/qwen05b.yaml               # its tasks, demos, sft
    python benchmarks/engines.py --config configs/qwen05b.yaml --grpo.start_from=base
    python benchmarks/engines.py --config configs/qwen05b.yaml --made_up --grpo.start_from=base

The old engine, two files of that commit, plays through today's runner: tasks, tools, graders,
weights, prompts and each episode's random draws are the same, so is what it samples, up to
rounding. It decodes in waves, for which all wait for all, and reads the first prompt of each
episode of a group. `--made_up` has no tools: episodes of four turns of made-up tokens, all as long,
so that nobody waits for anybody, which is the old engine's best case.

A row for each side and round, in a process of its own, is kept; the same command goes on. The exit
code is 1 under twice the old engine's tokens per second. The peak of memory is that of generation
alone: a bf16 base's matrices are there twice while it acts, and training, which comes after, takes
more (`benchmarks/training.py`).
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch

from benchmarks.made_up import make_prompts, play_all
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
from envs.records import Policy, Sampled
from rewards.outcome import is_solved
from train.config.load import load_settings
from train.config.settings import Settings
from train.models.model import set_up_torch
from train.recipes.grpo import make_starting_model
from train.rollouts.engine import make_engine
from train.rollouts.runner import open_runner
from train.stages.exit_codes import run_main

OLD = "decba2c"
SIDES = ("before", "now")
GROUP_SIZE = 8
LEAST_SPEED = 2.0
TURNS, PROMPT_TOKENS = 4, 640  # of made-up episodes


@dataclass(frozen=True)
class MadeUpChat:
    """What an engine asks of a chat format, with ends that made-up turns do not come to.

    Attributes:
        eot_id: A token of the model that is never sampled.
        stop_ids: The same.
    """

    eot_id: int = -1
    stop_ids: tuple[int, ...] = ()


@dataclass
class Waves:
    """The old engine as the runner wants a sampler."""

    engine: Any
    make_policy: Callable[..., Policy]
    max_rows: int
    in_waves: bool = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def policy(self, *, seed: int, group: str) -> Policy:
        """Return what plays one attempt at an episode."""
        del group
        return self.make_policy(self.engine, torch.Generator().manual_seed(seed))

    def join(self, num_workers: int) -> None:
        """Count workers that each wave waits for."""
        self.engine.join(num_workers)

    def leave(self) -> None:
        """Count one worker less."""
        self.engine.leave()

    def forget(self, seed: int) -> None:
        """Nothing: each wave forgets who is not in it."""


def main(argv: list[str]) -> int:
    """Measure what is missing, write the table; the exit code is 1 below the goal."""
    arguments, overrides = parse(argv)
    fixed = [f"--grpo.group_size={GROUP_SIZE}", "--grpo.evaluate_every=null"]
    fixed += [f"--grpo.generation_batch={arguments.episodes}", "--grpo.updates_per_rollout=1"]
    settings = load_settings(arguments.config, [*overrides, *fixed])
    if arguments.one:
        print(json.dumps(measure(settings, json.loads(arguments.one))))
        return 0
    facts = {"run": settings.run.name, "episodes": arguments.episodes}
    facts |= {"made_up": arguments.made_up}
    specs: list[Spec] = [
        {**facts, "what": side, "round": number}
        for number in range(arguments.rounds)
        for side in SIDES
    ]
    again = ["--config", str(arguments.config), "--episodes", str(arguments.episodes), *overrides]
    rows = collect(specs, lambda spec: measure_alone(__file__, spec, *again), kept=arguments.rows)
    text, is_fine = describe(settings, rows)
    out = arguments.out or ROOT / f"benchmarks/results/engines_{settings.run.name}.md"
    out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_fine else 1


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments, and the settings that are given beside them."""
    parser = new_parser(__doc__, rows=ROOT / "runs/benchmarks/engines.jsonl")
    parser.add_argument("--episodes", type=int, default=16, help="episodes at once")
    parser.add_argument("--made_up", action="store_true", help="episodes of made-up tokens")
    return parser.parse_known_args(argv)


def measure(settings: Settings, spec: Spec) -> Row:
    """Measure one side in this process."""
    set_up_torch(settings)
    model = make_starting_model(settings).eval()
    open_side = open_old if spec["what"] == "before" else open_new
    play = play_made_up if spec["made_up"] else play_tasks
    held = reset_peak()
    row = play(settings, model, open_side, spec)
    return {**row, "held_mb": held / 1e6, "peak_mb": peak_bytes() / 1e6}


def open_new(model: Any, chat: Any, settings: Settings) -> tuple[Any, Any, Stopwatch]:
    """Return today's engine, as a sampler too, and a watch on it."""
    engine = make_engine(model, chat, settings)
    return engine, engine, watch_engine()


def open_old(model: Any, chat: Any, settings: Settings) -> tuple[Any, Any, Stopwatch]:
    """Return the old engine, a sampler around it, and a watch on it."""
    folder = Path(tempfile.mkdtemp(prefix="old-engine-"))
    for name in ("generate", "prefix_cache"):
        line = ["git", "-C", str(ROOT), "show", f"{OLD}:train/{name}.py"]
        text = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        text = text.replace("from train.prefix_cache", "from old_prefix_cache")
        text = text.replace("from train.settings", "from train.config.settings")
        (folder / f"old_{name}.py").write_text(text, encoding="utf-8")
    sys.path.append(str(folder))
    old = import_module("old_generate")
    engine, watch = old.engine_for(model, chat, settings), Stopwatch()
    watch.time(old.Engine, "_read", "prompts")
    watch.time(old.Engine, "_decode", "all")
    return engine, Waves(engine, old.ModelPolicy, settings.grpo.generation_batch), watch


def play_tasks(settings: Settings, model: Any, open_side: Any, spec: Spec) -> Row:
    """Play a round's episodes of train tasks, that no other round has."""
    with open_runner(settings) as runner:
        tasks = [task.id for task in runner.store.split("train")]
        num_groups = spec["episodes"] // GROUP_SIZE
        start = spec["round"] * num_groups
        chosen = [tasks[(start + place) % len(tasks)] for place in range(num_groups)]
        requests = runner.draw_requests(
            chosen, stage="grpo", step=spec["round"], group_size=GROUP_SIZE
        )
        for request in requests:
            runner.measure_gold(request.task_id)
            runner.windows.needs_rewrite(request.task_id, request.window_tokens)
        _, sampler, watch = open_side(model, runner.chat, settings)
        began = time.perf_counter()
        episodes = runner.play_all(
            requests,
            lambda request: sampler.policy(seed=request.seed, group=request.group_id),
            policy="grpo",
            concurrency=spec["episodes"],
            sampler=sampler,
        )
        seconds = time.perf_counter() - began
    sampled = [event for each in episodes for event in each.events if isinstance(event, Sampled)]
    return {
        "seconds": seconds,
        "tokens": sum(len(event.token_ids) for event in sampled),
        "turns": len(sampled),
        "solved": statistics.fmean(map(is_solved, episodes)),
        "parts": split_parts(watch, seconds),
    }


def play_made_up(settings: Settings, model: Any, open_side: Any, spec: Spec) -> Row:
    """Play episodes of made-up tokens, all as long."""
    engine, _, watch = open_side(model, MadeUpChat(), settings)
    engine.max_new_tokens = settings.context.max_new_tokens
    prompts = make_prompts(
        spec["episodes"], num_tokens=PROMPT_TOKENS, vocab_size=model.config.vocab_size
    )
    began = time.perf_counter()
    rows = asyncio.run(play_all(engine, prompts, num_turns=TURNS))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "tokens": sum(sum(row.loss_mask_T) for row in rows),
        "turns": TURNS * len(rows),
        "solved": 0.0,
        "parts": split_parts(watch, seconds),
    }


def split_parts(watch: Stopwatch, seconds: float) -> dict[str, float]:
    """Return the shares of the time: prompts, tokens, and what an engine waits for."""
    found = watch.seconds
    tokens = found["tokens"] if "tokens" in found else found["all"] - found["prompts"]
    parts = {"prompts": found["prompts"] / seconds, "tokens": tokens / seconds}
    return parts | {"the rest": 1 - sum(parts.values())}


def describe(settings: Settings, rows: Sequence[Row]) -> tuple[str, bool]:
    """Return the table, and whether it is as it should be."""
    sides = {side: [row for row in rows if row["spec"]["what"] == side] for side in SIDES}
    pairs = list(zip(*sides.values(), strict=True))
    speed = estimate_ratio([(speed_of(now), speed_of(before)) for before, now in pairs])
    memory = estimate_ratio([(now["peak_mb"], before["peak_mb"]) for before, now in pairs])
    spec = rows[0]["spec"]
    made_up = " made-up" if spec["made_up"] else ""
    lines = [
        f"# Generation: the engine at {OLD} and now, {settings.run.name}",
        "",
        f"`python benchmarks/engines.py`: {len(pairs)} rounds of {spec['episodes']}{made_up} "
        f"episodes; commit {list_commits(rows)}.",
        "",
        f"Now it samples {show_ratio(speed)} as many tokens per second, tools and waiting "
        f"included, and its peak is {show_ratio(memory)} that of before.",
        "",
        "| | Tokens per second | Tokens of an episode | Turns | Solved | Peak, MB "
        "| Where the time goes |",
        "|---|---|---|---|---|---|---|",
        *(describe_side(side, found) for side, found in sides.items()),
    ]
    return "\n".join(lines) + "\n", speed.value is not None and speed.value >= LEAST_SPEED


def speed_of(row: Row) -> float:
    """Return sampled tokens per second of wall time."""
    return float(row["tokens"] / row["seconds"])


def describe_side(side: str, rows: Sequence[Row]) -> str:
    """Return a side's line: means over its rounds."""
    num = sum(row["spec"]["episodes"] for row in rows)
    shares = {
        name: statistics.fmean(row["parts"][name] for row in rows) for name in rows[0]["parts"]
    }
    return (
        f"| {side} | {statistics.fmean(map(speed_of, rows)):.1f} | "
        f"{sum(row['tokens'] for row in rows) / num:.0f} | "
        f"{sum(row['turns'] for row in rows) / num:.1f} | "
        f"{statistics.fmean(row['solved'] for row in rows):.0%} | "
        f"{statistics.fmean(row['peak_mb'] for row in rows):,.0f} | "
        + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        + " |"
    )


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
