"""What the log and its views cost a turn: 200 turns in a window of 32,768 tokens, every strategy.

    python benchmarks/context_log.py        # about a CPU minute; writes results/context_log.md

A policy reads lines until the turns are over; where it has the tools, it evicts before the window
is full. Two figures, CPU milliseconds per turn: of the log alone (`append`, `view`, counts,
segments), and of all that the environment does, without the time in tokenizer and template.
"""

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from envs.context.event_log import EventLog
from envs.context.strategies import draw_thresholds
from envs.environment import Environment, EpisodeMetadata, Limits
from envs.policies import call
from envs.prompts import SYSTEM_SHORT
from envs.records import Strategy
from envs.rendering import ChatFormat
from envs.tools import list_tools

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.envs.world import CHAT, TASK, sample_of, sample_text

RESULTS = Path(__file__).parent / "results" / "context_log.md"
WINDOW, TURNS = 32_768, 200
LIMITS = Limits(WINDOW, TURNS, 160, 1024)
FILES = {"long.py": "".join(f"value_{n} = {n} * {n}\n" for n in range(3000))}
LOG = ("append", "view", "count_freed", "count_after", "segment_ids", "list_results")
CHAT_CALLS = ("encode", "encode_result", "decode", "prefix", "call_ids", "surround_results")


class Clock:
    """CPU seconds inside the outermost of the methods that it watches."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def watch(self, owner: Any, names: tuple[str, ...]) -> None:
        """Time the methods of an object from now on."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began, self._depth = time.process_time(), self._depth + 1
            try:
                return method(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - began

        return timed


def measure(strategy: Strategy) -> dict[str, float]:
    """Play one episode; returns milliseconds per turn, and what was held and rewritten."""
    log_clock, chat_clock = Clock(), Clock()
    environment = Environment(
        TASK,
        FILES,
        chat=CHAT,
        system=SYSTEM_SHORT,
        limits=LIMITS,
        strategy=strategy,
        thresholds=draw_thresholds(
            strategy, fill=(0.8, 0.9), keep_last=(10, 10), evict_batch=10, rng=random.Random(0)
        ),
    )
    chat: ChatFormat = environment._chat
    log: EventLog = environment._log
    log_clock.watch(log, LOG)
    chat_clock.watch(chat, CHAT_CALLS)
    num_lines = 3 if strategy == "full_history" else 25
    seconds, largest = 0.0, 0
    for turn in range(TURNS):
        view = environment.view()
        largest = max(largest, len(view.prompt_ids))
        start = 1 + turn * 11
        calls = [call("read_lines", path="long.py", start=start, end=start + num_lines)]
        left = view.observations[-1].remaining_tokens if view.observations else WINDOW
        if "evict" in list_tools(strategy) and left < 2000:
            old = [each.id for each in view.observations[:-4]]
            calls.insert(0, call("evict", observation_ids=old))
        sample = sample_text("read all so far") if view.asks_summary else sample_of(calls)
        chat_before, began = chat_clock.seconds, time.process_time()
        environment.step(sample)
        seconds += time.process_time() - began - (chat_clock.seconds - chat_before)
    began = time.process_time()
    episode = environment.record(EpisodeMetadata("g", 0, 0, "x", 0, 0.0, False), outcome=None)
    assert len(episode.turns) == TURNS, episode.stop_reason
    assert largest <= WINDOW - LIMITS.max_new_tokens, largest
    seconds += time.process_time() - began
    for name in CHAT_CALLS:
        delattr(chat, name)
    return {
        "log_ms": 1000 * log_clock.seconds / TURNS,
        "all_ms": 1000 * seconds / TURNS,
        "largest": largest,
        "rewrites": environment.view().num_rewrites,
    }


def main() -> None:
    """Measure every strategy and write the table."""
    rows = [
        f"# Log and view: {TURNS} turns, a window of {WINDOW:,} tokens\n",
        "CPU milliseconds per turn, without tokenizer and template (`python "
        "benchmarks/context_log.py`).\n",
        "| Strategy | Log and view | All of the environment | Largest view | Rewrites |",
        "|---|---|---|---|---|",
    ]
    for strategy in get_args(Strategy):
        best = min((measure(strategy) for _ in range(3)), key=lambda found: found["all_ms"])
        rows.append(
            f"| {strategy} | {best['log_ms']:.2f} | {best['all_ms']:.2f} | {best['largest']:,} "
            f"| {best['rewrites']} |"
        )
        print(rows[-1], flush=True)
    RESULTS.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
