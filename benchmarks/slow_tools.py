"""How much sooner episodes end if none waits for the slowest: continuous admission against waves.

    python benchmarks/slow_tools.py          # about five CPU minutes; writes results/slow_tools.md

The same random model of the demo's shape, the same prompts, draws and tools; tools take 0.1 to 2
seconds at random. Three sides: the waves of decba2c, by that commit's own code, which is taken out
of the repository's history; this engine's waves, as `run.deterministic` has them; and continuous
admission. Each measurement is a process of its own. Time is the CPU time of that process and the
waits in which it had nothing to do, which are skipped: neighbours on the cores do not count. One
thread. The exit code is 1 if continuous admission is not as fast as it should be against the waves
of decba2c with as many episodes at a time on both sides, or if two sides sample different tokens.
Rows are kept: the same command goes on.

Limits: tools take no CPU here, and there are as many at once as episodes ask for.
"""

import argparse
import asyncio
import io
import json
import math
import random
import selectors
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

# What is ours is imported where it is needed: one side brings the code of another commit.

ROOT = Path(__file__).resolve().parents[1]
OLD = "decba2c"
Side = Literal["waves of decba2c", "waves", "continuous"]
NUM_EPISODES, NUM_TURNS, NUM_ROWS, NUM_EXTRA = 96, 4, 32, 16
PROMPT_TOKENS, RESULT_TOKENS, NEW_TOKENS = 200, 40, 64
TOOLS_S = (0.1, 2.0)
GOAL = 1.8
STOP_ID, STOP_BIAS = 0, math.log(30)  # of 1,000 about equal words: a sample of about 30 tokens
FIRST_ID = 100  # of prompts


@dataclass(frozen=True)
class Measured:
    """One way of admission: the episodes at a time, what they took, and what they sampled."""

    side: Side
    concurrency: int
    round: int
    seconds: float
    waited_s: float
    num_tokens: int


class SkippingSelector(selectors.DefaultSelector):
    """Never waits: counts the seconds in which there was nothing to do."""

    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready now."""
        ready = super().select(0)
        if not ready and timeout:
            self.skipped_s += timeout
        return ready


class BusyLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is CPU time and skipped waits."""

    def __init__(self) -> None:
        self.selector = SkippingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        """Return seconds."""
        return time.process_time() + self.selector.skipped_s


def make_model() -> Any:
    """Return a random model of the demo's shape that ends a sample when it should."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config).eval()
    bias = torch.zeros(config.vocab_size)
    bias[STOP_ID] = STOP_BIAS
    model.lm_head.bias = torch.nn.Parameter(bias)
    return model


def make_engine(side: Side, model: Any) -> Any:
    """Return the engine of a side; that of decba2c knows one end of a sample only."""
    if side == "waves of decba2c":
        from train.generate import Engine as OldEngine  # type: ignore[import-not-found]
        from train.generate import Sampling

        return OldEngine(model, eot_id=STOP_ID, pad_id=STOP_ID, sampling=Sampling(NEW_TOKENS))
    from train.rollouts.engine import Engine

    is_waves = side == "waves"
    return Engine(model, (STOP_ID,), NEW_TOKENS, in_waves=is_waves, max_rows=NUM_ROWS)


async def play(episode: int, engine: Any) -> int:
    """Play one episode; returns the tokens that it sampled."""
    drawn, generator = random.Random(episode), torch.Generator().manual_seed(episode)
    prompt = tuple(drawn.choices(range(FIRST_ID, 1000), k=PROMPT_TOKENS))
    num_sampled = 0
    for _ in range(NUM_TURNS):
        sample = await engine.sample(prompt, generator)
        num_sampled += len(sample.token_ids)
        await asyncio.sleep(drawn.uniform(*TOOLS_S))
        prompt += (*sample.token_ids, *drawn.choices(range(FIRST_ID, 1000), k=RESULT_TOKENS))
    return num_sampled


def measure(side: Side, *, concurrency: int, round: int) -> Measured:
    """Play all episodes, so many at a time."""
    torch.set_num_threads(1)
    engine = make_engine(side, make_model())
    loop = BusyLoop()
    asyncio.set_event_loop(loop)
    began = loop.time()
    queue = iter(range(NUM_EPISODES))
    sampled: list[int] = []

    async def work() -> None:
        try:
            for episode in queue:
                sampled.append(await play(episode, engine))
        finally:
            engine.leave()

    async def run() -> None:
        engine.join(concurrency)
        await asyncio.gather(*(work() for _ in range(concurrency)))

    loop.run_until_complete(run())
    seconds = loop.time() - began
    loop.close()
    return Measured(side, concurrency, round, seconds, loop.selector.skipped_s, sum(sampled))


def take_out(commit: str, folder: Path) -> None:
    """Write the code of a commit into a folder."""
    line = ["git", "archive", "--format=tar", commit, "envs", "rewards", "train"]
    packed = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")


def main() -> int:
    """Measure and write the table; the exit code is 1 below the goal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side")
    parser.add_argument("--rows", type=Path, default=ROOT / "runs/slow_tools.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/slow_tools.md")
    parser.add_argument("--code", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        sys.path[0] = str(given.code)
        print(json.dumps(asdict(measure(**json.loads(given.one)))))
        return 0
    sys.path[0] = str(ROOT)
    from benchmarks.measuring import collect, measure_alone

    with tempfile.TemporaryDirectory() as folder:
        take_out(OLD, Path(folder))

        def measure_one(spec: Any) -> dict[str, Any]:
            code = folder if spec["side"] == "waves of decba2c" else str(ROOT)
            return measure_alone(str(Path(__file__)), spec, "--code", code)

        specs = [
            {"side": side, "concurrency": concurrency, "round": number}
            for number in range(given.rounds)  # the sides take turns
            for concurrency in (NUM_ROWS, NUM_ROWS + NUM_EXTRA)
            for side in get_args(Side)
        ]
        found = collect(specs, measure_one, kept=given.rows)
    names = Measured.__dataclass_fields__
    text, is_fine = describe([Measured(**{name: row[name] for name in names}) for row in found])
    given.out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_fine else 1


def describe(rows: Sequence[Measured]) -> tuple[str, bool]:
    """Return the table, and whether continuous admission reaches the goal at equal concurrency."""
    from benchmarks.measuring import estimate_ratio, show_ratio

    by_kind: dict[tuple[int, Side], list[Measured]] = {}
    for row in rows:
        by_kind.setdefault((row.concurrency, row.side), []).append(row)
    lines, reached = [], []
    for (concurrency, side), same in by_kind.items():
        old = [row.seconds for row in by_kind[concurrency, "waves of decba2c"]]
        ratio = estimate_ratio(list(zip(old, (row.seconds for row in same), strict=True)))
        seconds, waited = (
            sum(each) / len(same)
            for each in ([row.seconds for row in same], [row.waited_s for row in same])
        )
        if side == "continuous":
            reached.append((ratio.value or 0) >= GOAL)
        shown = "1x" if side == "waves of decba2c" else show_ratio(ratio)
        lines.append(
            f"| {concurrency} | {side} | {seconds:.1f} | {waited:.1f} | {same[0].num_tokens:,} | "
            f"{60 * NUM_EPISODES / seconds:.0f} | {shown} |"
        )
    are_equal = len({row.num_tokens for row in rows}) == 1
    is_fine = all(reached) and are_equal
    head = [
        "# Continuous admission against waves",
        "",
        f"`python benchmarks/slow_tools.py`: {NUM_EPISODES} episodes of {NUM_TURNS} turns; tools "
        f"take {TOOLS_S[0]:g} to {TOOLS_S[1]:g} s at random. A wave has as many rows as episodes "
        f"are played at a time, continuous admission at most {NUM_ROWS}: where more are played, "
        "tools of some run while others decode. Means of "
        f"{max(row.round for row in rows) + 1} rounds, in which the sides take turns; ratios with "
        f"their 95 % interval over rounds. The goal, {GOAL:g}x against the waves of decba2c at "
        f"equal concurrency, is {'reached' if all(reached) else 'not reached'}. All sides sample "
        f"{'as many tokens' if are_equal else 'DIFFERENT numbers of tokens'}.",
        "",
        "| Episodes at a time | Admission | Seconds | of these with nothing to compute "
        "| Sampled tokens | Episodes per minute | Against the waves of decba2c |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) + "\n", is_fine


if __name__ == "__main__":
    sys.exit(main())
