"""A run whose tools fail, hang and are killed: does it end, what does it count, what does it learn?

    python benchmarks/faults.py --out benchmarks/results/faults.md

About 12 minutes on 2 idle CPU cores. First 50 steps of GRPO at the size of configs/smoke.yaml, on
the real engine, workers and sandbox: of the tool calls 10 % fail, 5 % hang until the deadline and
2 % kill their worker. Scripts play, so that there is something to learn from; the engine decodes a
turn of the model for each of theirs. The gradient of every step is compared with that of its
scorable episodes alone, with a KL term and without. Then the same run without faults. All episodes
of a step are played at a time, so a step should take as long as its longest episode: its turns at
the pace of the run without faults, and its late calls until their deadlines. A call that hangs and
holds up other episodes is not explained. Then, without faults, what a call costs through the
workers beside one in the process itself, and what that costs a run of scripts: its time beside one
with threads, as it was before there were workers. The exit code is 1 if a gradient differs,
anything is left, the time is not explained, or a run takes more than 1.5 times as long with
workers.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from envs.grading.graders import Equipment, make_grader
from envs.habits.options import draw_habit, draw_options
from envs.policies import call
from envs.records import Outcome, Policy, ToolCall
from envs.sandbox.levels import probe
from envs.sources.synthetic import generate
from envs.tasks.store import TaskStore
from envs.tools import TurnDone
from envs.workers.pool import WorkerPool
from envs.workers.workbench import Workbench, open_workbench
from envs.workspace import Changes, Workspace
from rewards.metrics import count_failed_parts
from rewards.outcome import is_scorable
from tests.envs.world import CHAT, InProcess
from tests.train.recipes.faulty_run import KL_WEIGHT, FaultyRun, faulty_run
from train.config.load import load_settings
from train.rollouts.runner import EpisodeRequest, RolloutRunner
from train.stages.exit_codes import run_main

DEADLINE_S = 2.0
FAULTS = {"fail": 0.10, "hang": 0.05, "be_killed": 0.02}
NUM_EPISODES, NUM_ROUNDS, NUM_CALLS = 300, 5, 2_000
NUM_WORKERS, CONCURRENCY = 6, 8  # as `open_runner` starts on 2 cores
BOUND, MOST_SLOWER, MOST_UNEXPLAINED = 1e-6, 1.5, 1.15


class Threads(InProcess):
    """The same workbench behind threads of the process that plays: the way before workers."""

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        """See `Bench`."""
        done = asyncio.to_thread(self._workbench.use_tools, task_id, changes, calls)
        return await asyncio.wait_for(done, deadline_s)

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        """See `Bench`."""
        done = asyncio.to_thread(self._workbench.grade, task_id, files)
        return await asyncio.wait_for(done, deadline_s)


@dataclass(frozen=True)
class Cost:
    """What workers cost: medians of one run, in which both ways take turns.

    Attributes:
        through_us: Microseconds of a small tool call through a worker.
        inside_us: The same call in the process itself.
        slower: Time of a run of scripts, as a multiple of that with threads.
        turns: Turns of an episode.
        episode_ms: Milliseconds of a run for each of its episodes.
    """

    through_us: float
    inside_us: float
    slower: float
    turns: float
    episode_ms: float


def main(argv: list[str]) -> int:
    """Run both parts, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/faults.md")
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args(argv)
    runs = {}
    for name, shares in (("with", FAULTS), ("without", {})):
        with tempfile.TemporaryDirectory() as folder, own_temporary_folder() as left_in:
            runs[name] = run = faulty_run(
                Path(folder),
                num_steps=arguments.steps,
                deadline_s=DEADLINE_S,
                shares=shares,
                decodes=True,
            )
            files = sorted(path.name for path in left_in.iterdir())
            if shares:
                lines, fine = described(run, files, num_steps=arguments.steps)
    more, is_explained = time_lines(runs["with"], runs["without"])
    cost = measured_cost()
    lines += [*more, *cost_lines(cost)]
    fine &= is_explained and cost.slower <= MOST_SLOWER
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0 if fine else 1


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Let this process and those that it starts have a temporary folder of their own."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # runs in the sandbox pass through with other user ids
        os.environ["TMPDIR"], tempfile.tempdir = folder, None
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)


def described(run: FaultyRun, files: Sequence[str], *, num_steps: int) -> tuple[list[str], bool]:
    """Return what to say of the run with faults, and whether all is as it should be."""
    steps = range(1, num_steps + 1)
    episodes = [run.episodes(step) for step in steps]
    everything = [episode for step in episodes for episode in step]
    broken = [sum(not is_scorable(episode) for episode in step) for step in episodes]
    parts = {part: num for part, num in count_failed_parts(everything).items() if num}
    with_kl = run.differences()
    run.trainer.beta = 0.0
    without = run.differences()
    turns = sum(len(episode.turns) for episode in everything)
    left = ", ".join([*([run.left] if run.left else []), *files])
    lines = [
        "# Runs whose tools fail",
        "",
        f"`python benchmarks/faults.py`; sandbox level {probe().level}. {num_steps} steps of GRPO, "
        f"{len(everything)} episodes with {turns} turns on record; of the tool calls "
        + ", ".join(f"{share:.0%} {name.replace('_', ' ')}" for name, share in FAULTS.items())
        + f"; deadline {DEADLINE_S:g} s. It ended by itself after step "
        f"{run.trainer.state.global_step}, in {run.seconds:.0f} s. Left: {left or 'nothing'}.",
        "",
        f"Unscorable: {sum(broken)} of {len(everything)} episodes, in {sum(map(bool, broken))} "
        f"steps ({', '.join(f'{part} {num}' for part, num in parts.items())}).",
        "",
        "Difference of a step's gradient to that of its scorable episodes alone, in parts of the "
        "norm of the latter:",
        "",
        "| | median | largest |",
        "|---|---|---|",
        f"| KL weight {KL_WEIGHT:g} | {median(with_kl):.1e} | {max(with_kl):.1e} |",
        f"| KL weight 0 | {median(without):.1e} | {max(without):.1e} |",
    ]
    fine = max(*with_kl, *without) < BOUND and not left
    return lines, fine and run.trainer.state.global_step == num_steps


def time_lines(faulty: FaultyRun, fine: FaultyRun) -> tuple[list[str], bool]:
    """Return what to say of the time, and whether turns and deadlines explain it."""
    calls = [run.bench.calls for run in (faulty, fine)]
    late = [each for each in calls[0] if each.is_late]
    turn_s = fine.rollouts.play_s / fine.bench.explain(1.0)
    explained = faulty.bench.explain(turn_s)
    share = faulty.rollouts.play_s / explained
    lines = [
        "",
        f"Time of playing: {faulty.rollouts.play_s:.0f} s with faults for {len(calls[0])} turns "
        f"with calls, {fine.rollouts.play_s:.0f} s without for {len(calls[1])}. {len(late)} turns "
        f"hung until their deadline, {sum(each.seconds for each in late):.0f} s in all. Had every "
        "episode gone its way without the others', each turn at the pace without faults "
        f"({turn_s:.2f} s), each step as long as its longest episode, playing would have taken "
        f"{explained:.0f} s: it took {share:.2f} times that.",
    ]
    return lines, share <= MOST_UNEXPLAINED


def cost_lines(cost: Cost) -> list[str]:
    """Return what to say of the cost of workers."""
    share = cost.turns * (cost.through_us - cost.inside_us) / 1000 / cost.episode_ms
    return [
        "",
        f"Cost: a small tool call takes {cost.through_us / cost.inside_us:.1f} times as long "
        f"through a worker as in the process itself; at {cost.turns:.1f} turns that is {share:.1%} "
        f"of a scripted episode. A run of scripts takes {cost.slower:.2f} times as long with "
        f"{NUM_WORKERS} workers as with threads ({CONCURRENCY} episodes at a time).",
    ]


def measured_cost() -> Cost:
    """Play the same scripted episodes through workers and through threads, in turns."""
    settings = load_settings(ROOT / "configs" / "tiny.yaml", [])
    tasks = list(generate(NUM_EPISODES, split="train", seed=0))
    store, cache = TaskStore.of(tasks), ROOT / ".cache" / "tightrope"
    equipment = Equipment.find(store, cache_dir=cache)
    opener = partial(
        open_workbench, store, equipment=equipment, second_runner_share=0.0, cache_dir=cache
    )
    requests = [EpisodeRequest(t.public.id, f"g/{n}", 0, 560, n) for n, t in enumerate(tasks)]
    with (
        make_grader(store, cache_dir=cache, equipment=equipment) as grader,
        WorkerPool(opener, num_workers=NUM_WORKERS) as pool,
    ):
        workbench = Workbench(store, grader)
        runners = [
            RolloutRunner(store, CHAT, settings, bench) for bench in (Threads(workbench), pool)
        ]
        times: list[list[float]] = [[], []]
        for number in range(NUM_ROUNDS + 1):
            for runner, found in zip(runners, times, strict=True):
                began = time.perf_counter()
                episodes = runner.play_all(
                    requests,
                    partial(_make_script, runner),
                    policy="script",
                    concurrency=CONCURRENCY,
                )
                if number:  # the first round starts workers and plays references
                    found.append(time.perf_counter() - began)
        through_us, inside_us = asyncio.run(_trips(pool, workbench, tasks[0].public))
    return Cost(
        through_us,
        inside_us,
        slower=median(b / a for a, b in zip(*times, strict=True)),
        turns=sum(len(episode.turns) for episode in episodes) / len(episodes),
        episode_ms=1000 * median(times[1]) / len(episodes),
    )


async def _trips(pool: WorkerPool, workbench: Workbench, task: Any) -> tuple[float, float]:
    """Return microseconds of a small call through a worker and inside, each the median."""
    calls = (call("read_lines", path=task.editable[0], start=1, end=4),)
    fresh = Workspace.of({}, ()).changes()
    through, inside = [], []
    for _ in range(NUM_CALLS):
        began = time.perf_counter()
        await pool.use_tools(task.id, fresh, calls, deadline_s=60)
        between = time.perf_counter()
        workbench.use_tools(task.id, fresh, calls)
        through.append(between - began)
        inside.append(time.perf_counter() - between)
    return 1e6 * median(through), 1e6 * median(inside)


def _make_script(runner: RolloutRunner, request: EpisodeRequest) -> Policy:
    rng = random.Random(request.seed)
    kind = "careful" if rng.random() < 0.6 else "wasteful"
    options = draw_options(draw_habit(kind, rng=rng), rng=rng)  # type: ignore[arg-type]
    return runner.make_script(request.task_id, kind, options=options)


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
