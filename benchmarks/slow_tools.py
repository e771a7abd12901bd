"""How much sooner episodes end if none waits for the slowest: continuous admission against waves.

    python benchmarks/slow_tools.py          # about a CPU minute; writes results/slow_tools.md

The same random model of the demo's shape, the same prompts, draws and tools; tools take 0.1 to 2
seconds at random. Time is the CPU time of this process and the waits in which it had nothing to
do, which are skipped: neighbours on the cores do not count. One thread.

Limits: tools take no CPU here, and there are as many at once as episodes ask for.
"""

import asyncio
import random
import selectors
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from train.rollouts.engine import Engine

RESULTS = Path(__file__).parent / "results" / "slow_tools.md"
NUM_EPISODES, NUM_TURNS, NUM_ROWS, NUM_EXTRA = 96, 4, 32, 16
PROMPT_TOKENS, RESULT_TOKENS, NEW_TOKENS = 200, 40, 64
TOOLS_S = (0.1, 2.0)
STOP_IDS = tuple(range(30))  # of 1,000: a sample of about 30 tokens
FIRST_ID = 100  # prompts hold none of the others


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


def main() -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    model = make_model()
    rows = []
    for name, in_waves, concurrency in (
        ("waves", True, NUM_ROWS),
        ("continuous, as many episodes at a time", False, NUM_ROWS),
        (f"continuous, {NUM_EXTRA} more whose tools run", False, NUM_ROWS + NUM_EXTRA),
    ):
        engine = Engine(model, STOP_IDS, NEW_TOKENS, in_waves=in_waves, max_rows=NUM_ROWS)
        seconds, num_tokens = measure(engine, concurrency=concurrency)
        rows.append((name, seconds, num_tokens))
        print(f"{name}: {seconds:.1f} s, {num_tokens} tokens", flush=True)
    lines = [
        "# Continuous admission against waves",
        "",
        f"`python benchmarks/slow_tools.py`: {NUM_EPISODES} episodes of {NUM_TURNS} turns, at most "
        f"{NUM_ROWS} rows; tools take {TOOLS_S[0]:g} to {TOOLS_S[1]:g} s at random.",
        "",
        "| Admission | Seconds | Sampled tokens | Episodes per minute | Against waves |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {seconds:.1f} | {num:,} | {60 * NUM_EPISODES / seconds:.0f} | "
        f"{rows[0][1] / seconds:.2f}x |"
        for name, seconds, num in rows
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
