"""How much sooner episodes end if none waits for the slowest: continuous admission against waves.

    python benchmarks/slow_tools.py          # about a CPU minute; writes results/slow_tools.md

The same random model of the demo's shape, the same prompts, draws and tools; tools take 0.1 to 2
seconds at random. Time is the CPU time of this process and the waits in which it had nothing to
do, which are skipped: neighbours on the cores do not count. One thread. Waves are this engine's
own, as `run.deterministic` has them. The exit code is 1 if continuous admission is not as fast as
it should be with as many episodes at a time on both sides.

Limits: tools take no CPU here, and there are as many at once as episodes ask for.
"""

import asyncio
import random
import selectors
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from train.rollouts.engine import Engine

RESULTS = Path(__file__).parent / "results" / "slow_tools.md"
NUM_EPISODES, NUM_TURNS, NUM_ROWS, NUM_EXTRA = 96, 4, 32, 16
PROMPT_TOKENS, RESULT_TOKENS, NEW_TOKENS = 200, 40, 64
TOOLS_S = (0.1, 2.0)
GOAL = 1.8
STOP_IDS = tuple(range(30))  # of 1,000: a sample of about 30 tokens
FIRST_ID = 100  # prompts hold none of the others


@dataclass(frozen=True)
class Measured:
    """One way of admission: the episodes at a time, what they took, and what they sampled."""

    in_waves: bool
    concurrency: int
    seconds: float
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
    """Return a random model of the demo's shape."""
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
    return Qwen2ForCausalLM(config).eval()


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


def measure(engine: Any, *, concurrency: int) -> tuple[float, int]:
    """Play all episodes; returns seconds and sampled tokens."""
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
    return seconds, sum(sampled)


def main() -> int:
    """Measure and write the table; the exit code is 1 below the goal."""
    torch.set_num_threads(1)
    model = make_model()
    rows: list[Measured] = []
    for concurrency in (NUM_ROWS, NUM_ROWS + NUM_EXTRA):
        for in_waves in (True, False):
            engine = Engine(model, STOP_IDS, NEW_TOKENS, in_waves=in_waves, max_rows=NUM_ROWS)
            rows.append(Measured(in_waves, concurrency, *measure(engine, concurrency=concurrency)))
            print(rows[-1], flush=True)
    text, is_fine = describe(rows)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_fine else 1


def describe(rows: Sequence[Measured]) -> tuple[str, bool]:
    """Return the table, and whether continuous admission reaches the goal at equal concurrency."""
    waves = {row.concurrency: row.seconds for row in rows if row.in_waves}
    ratios = [waves[row.concurrency] / row.seconds for row in rows]
    reached = [ratio >= GOAL for row, ratio in zip(rows, ratios, strict=True) if not row.in_waves]
    lines = [
        "# Continuous admission against waves",
        "",
        f"`python benchmarks/slow_tools.py`: {NUM_EPISODES} episodes of {NUM_TURNS} turns, at most "
        f"{NUM_ROWS} rows; tools take {TOOLS_S[0]:g} to {TOOLS_S[1]:g} s at random. Both play as "
        "many episodes at a time; where these are more than rows, tools of some run while others "
        f"decode. The goal, {GOAL:g}x at equal concurrency, is "
        f"{'reached' if all(reached) else 'not reached'}.",
        "",
        "| Episodes at a time | Admission | Seconds | Sampled tokens | Episodes per minute "
        "| Against waves |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.concurrency} | {'waves' if row.in_waves else 'continuous'} | {row.seconds:.1f} | "
        f"{row.num_tokens:,} | {60 * NUM_EPISODES / row.seconds:.0f} | {ratio:.2f}x |"
        for row, ratio in zip(rows, ratios, strict=True)
    ]
    return "\n".join(lines) + "\n", all(reached)


if __name__ == "__main__":
    sys.exit(main())
