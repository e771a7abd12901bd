"""A run directory as the stages write it, with episodes whose ids really decode to their text."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from envs.records import (
    Compacted,
    Episode,
    Event,
    Evicted,
    Observation,
    Observed,
    Opened,
    Outcome,
    Sampled,
    StopReason,
    ToolCall,
    Turn,
)
from rewards.advantages import score_group
from rewards.metrics import step_metrics, summarize

WINDOW = 1600  # tokens are bytes here
PROMPT = "Repair the code.\nhyd returns the wrong value for negative numbers.\nwindow 1600\n"
FILE = "def hyd(x, y):\n    <b>total</b> = x + y\n" + "    # filler line of a long module\n" * 18


def byte_tokenizer() -> Tokenizer:
    """Make a tokenizer with one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Recorder:
    """Writes one episode: each turn says something and reads something, maybe rewrites after it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.prefix = self._ids(PROMPT)
        self.events: list[Event] = [Opened(prefix_ids=self.prefix)]
        self.turns: list[Turn] = []
        self.segments: list[tuple[int, ...]] = []
        self._view, self._cached, self._fresh = self.prefix, 0, True

    def turn(self, call: ToolCall, result: str, *, rewrite: str | None = None) -> None:
        """Add one turn."""
        body = json.dumps({"name": call.name, "arguments": call.arguments})
        said = self._ids(f"<tool_call>\n{body}\n</tool_call>" if call.error is None else "uh {")
        whole = self._view + said
        self.segments = [*self.segments, whole] if self._fresh else [*self.segments[:-1], whole]
        number = len(self.turns) + 1
        self.turns.append(
            Turn(
                segment=len(self.segments) - 1,
                prompt_end=len(self._view),
                sample_end=len(whole),
                num_cached=self._cached,
                calls=(call,),
                observation_ids=(f"o{number}",),
            )
        )
        logps = (0.0,) * len(said)
        self.events.append(Sampled(token_ids=said, sampling_logps=logps, finish="stop"))
        self._cached, self._fresh, self._view = len(whole), False, whole
        if rewrite != "compact" and call.name != "submit":
            self._observe(f"o{number}", result)
        if rewrite is not None:
            self._rewrite(rewrite)

    def _observe(self, name: str, result: str) -> None:
        text = f"[{name} {len(result)}/{WINDOW}]\n{result}"
        piece = self._ids(text)
        item = Observation(id=name, text=text, num_tokens=len(result), remaining_tokens=WINDOW)
        self.events.append(
            Observed(
                observations=(item,),
                piece_ids=(piece,),
                head_ids=(),
                separator_ids=(),
                tail_ids=(),
            )
        )
        self._view += piece

    def _rewrite(self, kind: str) -> None:
        stub = self._ids("[o1 out hyd.py:1-20]")
        if kind == "evict":
            self.events.append(Evicted(stub_ids={"o1": stub}, prefix_ids=self.prefix))
            self._view = self.prefix + stub + self._view[len(self.prefix) + 560 :]
        else:
            summary = "hyd.py:2 adds; should subtract"
            self.events.append(Compacted(summary=summary, prefix_ids=self.prefix))
            self._view = self.prefix + self._ids(summary)
        self._cached, self._fresh = len(self.prefix), True

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)


def make_episode(
    tokenizer: Tokenizer, *, policy: str, task: int, sample: int, seed: int
) -> Episode:
    """Make one episode in the manner of `policy`."""
    draw = random.Random(f"{policy}{task}{sample}{seed}")
    record = Recorder(tokenizer)
    skill = {"base": 0.0, "sft": 0.5, "grpo": 0.65, "gold": 1.0, "careful": 1.0}[policy]
    read_file = ToolCall(name="read_file", arguments={"path": "hyd.py"})
    read_lines = ToolCall(name="read_lines", arguments={"path": "hyd.py", "start": 1, "end": 4})
    wasteful = draw.random() < {"sft": 0.7, "grpo": 0.15, "base": 0.5}.get(policy, 0.0)
    if policy == "base":
        record.turn(ToolCall(name="", error="not JSON", format="none"), "error: no tool call")
    elif wasteful:
        record.turn(read_file, FILE)
        record.turn(
            ToolCall(name="run_tests", arguments={}), "hyd.hyd(3, 5) returned 8", rewrite="evict"
        )
        record.turn(read_file, FILE)
        compact = ToolCall(name="compact", arguments={"summary": "hyd.py:2 adds"})
        record.turn(compact, "", rewrite="compact" if draw.random() < 0.5 else None)
    elif policy != "gold":
        record.turn(read_lines, "\n".join(FILE.splitlines()[:4]))
    solved = draw.random() < skill
    text = "    total = x - y" if solved else "    total = x * y"
    edit = {"path": "hyd.py", "start": 2, "end": 2, "text": text}
    stop = StopReason.SUBMITTED
    if policy == "base":
        stop = draw.choice([StopReason.NO_TOOL_CALL, StopReason.TURN_LIMIT])
    elif not solved and draw.random() < 0.4:
        stop = StopReason.CONTEXT_OVERFLOW
    record.turn(ToolCall(name="edit_lines", arguments=edit), text)
    if stop is StopReason.SUBMITTED:
        record.turn(ToolCall(name="submit", arguments={}), "")
    outcome = Outcome(fail_to_pass_rate=float(solved), pass_to_pass_rate=1.0, sandbox_level="test")
    return Episode(
        task_id=f"synthetic/{task:04d}",
        group_id=f"g{task}",
        sample_index=sample,
        seed=seed,
        policy=policy,
        policy_version=0,
        window_tokens=WINDOW,
        needs_rewrite=task % 3 == 0,
        strategy="learned",
        reference_cost=600.0,
        events=tuple(record.events),
        segment_ids=tuple(record.segments),
        turns=tuple(record.turns),
        outcome=outcome if stop is StopReason.SUBMITTED else None,
        stop_reason=stop,
    )


def make_run(folder: Path, *, num_tasks: int = 12, num_steps: int = 5) -> Path:
    """Write a whole run into `folder`, which is then runs/NAME."""
    tokenizer = byte_tokenizer()
    _write(folder / "sft/metrics.jsonl", [{"step": n, "loss": 3 / n} for n in range(1, 30)])
    (folder / "sft/tokenizer").mkdir()
    tokenizer.save(str(folder / "sft/tokenizer/tokenizer.json"))
    draw = random.Random(0)
    rows = []
    for step in range(1, num_steps + 1):
        manner = "grpo" if draw.random() < step / num_steps else "sft"
        groups = [
            [make_episode(tokenizer, policy=manner, task=t, sample=s, seed=step) for s in range(4)]
            for t in range(3)
        ]
        metrics = step_metrics(groups, [score_group(group) for group in groups])
        rows.append({"step": step, "entropy": 0.6 + 0.3 * draw.random(), **metrics})
        lines = [item.model_dump_json() for group in groups for item in group]
        _write_lines(folder / f"grpo/episodes/step_{step:05d}.jsonl", lines)
    _write(folder / "grpo/metrics.jsonl", rows)
    policies = []
    for policy in ("base", "sft", "grpo", "gold", "careful"):
        samples = 1 if policy == "base" else 2
        episodes = [
            make_episode(tokenizer, policy=policy, task=t, sample=s, seed=0)
            for t in range(num_tasks)
            for s in range(samples)
        ]
        lines = [item.model_dump_json() for item in episodes]
        _write_lines(folder / f"evaluate/episodes/{policy}.jsonl", lines)
        policies.append(summarize(episodes, name=policy, sampling="temperature 1"))
        if policy in ("sft", "grpo"):
            policies.append(summarize(episodes[::2], name=policy, sampling="greedy"))
    summary = {"schema_version": 1, "policies": policies, "comparisons": []}
    (folder / "evaluate/summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def _write(path: Path, rows: Sequence[object]) -> None:
    _write_lines(path, [json.dumps(row) for row in rows])


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
