"""Tokens per second through loss and backward on the same rows: stock TRL and ours.

    python benchmarks/training.py --config configs/qwen05b.yaml --num_rows 16   # its demos first
    python benchmarks/training.py --config configs/qwen05b.yaml --num_rows 16 --made_up \
        --grpo.start_from=base                                                  # the base is enough

The rows are segments of the run's GRPO episodes, group by group, or of its demonstrations while it
has none, or made up (`benchmarks/made_up.py`); all get an advantage. Both split them into
micro-batches of at most as many tokens, padding included: stock TRL, which pads all rows to the
longest, by a number that divides the rows, as large as `grpo.tokens_per_microbatch` allows; what
these then hold is what ours may compute at once, or `--budget`: its head takes less memory, so more
may fit into as much. `padded` is ours with rows of their own, padded,
in place of rows that share what they begin with. Each side of each round has a process of its own:
one pass for the memory, then timed ones. Memory is RAM on a CPU, so in steps of what the allocator
keeps. The loss is dapo without a KL term on all sides. Tokens are those of the rows, whatever is
computed of them.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOTrainer

from benchmarks.made_up import make_group_rows
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
)
from benchmarks.stock_trl import stock_config
from envs.records import Segment
from tests.train import tiny_policy
from train.config.load import load_settings
from train.config.settings import Settings
from train.models.model import load_tokenizer, meta_base, run_tokenizer, set_up_torch
from train.recipes.grpo import make_starting_model
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import MultiSegmentGRPOTrainer, RolloutBatch, make_step_dataset
from train.rl.segments import make_rows
from train.stages.exit_codes import run_main
from train.stages.run_dir import stage_dir

SIDES = ("stock", "padded", "ours")
GROUP_SIZE = 8
LEAST_SPEED = 1.5  # of stock TRL's


def main(argv: list[str]) -> int:
    """Measure what is missing, write the table; the exit code is 1 if ours is behind."""
    arguments, overrides = parse(argv)
    fixed = ["--grpo.kl_weight=0", "--grpo.evaluate_every=null", "--checkpoints.every=100"]
    fixed += [f"--grpo.group_size={GROUP_SIZE}", f"--grpo.max_steps={arguments.num_steps}"]
    fixed += [f"--grpo.groups_per_step={arguments.num_rows // GROUP_SIZE}"]
    settings = load_settings(arguments.config, [*overrides, *fixed])
    if arguments.one:
        print(json.dumps(measure(settings, json.loads(arguments.one))))
        return 0
    again = ["--config", str(arguments.config), "--num_rows", str(arguments.num_rows), *overrides]
    again += ["--num_steps", str(arguments.num_steps)]
    facts = {"run": settings.run.name, "rows": arguments.num_rows}
    facts |= {"made_up": arguments.made_up, "budget": arguments.budget}
    specs: list[Spec] = [
        {**facts, "what": side, "round": number}
        for number in range(arguments.rounds)
        for side in SIDES
    ]
    rows = collect(specs, lambda spec: measure_alone(__file__, spec, *again), kept=arguments.rows)
    text, is_fine = describe(settings, rows)
    out = arguments.out or ROOT / f"benchmarks/results/training_{settings.run.name}.md"
    out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_fine else 1


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments, and the settings that are given beside them."""
    parser = new_parser(__doc__, rows=ROOT / "runs/benchmarks/training.jsonl")
    parser.add_argument("--num_rows", type=int, default=64, help="rows of an update")
    parser.add_argument("--num_steps", type=int, default=4, help="updates; the first warms up")
    parser.add_argument("--budget", type=int, help="most tokens that ours computes at once")
    parser.add_argument("--made_up", action="store_true", help="rows of made-up tokens")
    return parser.parse_known_args(argv)


def measure(settings: Settings, spec: Spec) -> Row:
    """Measure one side in this process."""
    set_up_torch(settings)
    rows, tokenizer = find_rows(settings, spec)
    makers: dict[str, Callable[..., Any]] = {
        "stock": make_stock,
        "padded": partial(make_ours, budget=spec["budget"], packs=False),
        "ours": partial(make_ours, budget=spec["budget"]),
    }
    with tempfile.TemporaryDirectory() as folder, Stopwatch() as watch:
        trainer = makers[spec["what"]](settings, rows, Path(folder), tokenizer=tokenizer)
        watch.time(trainer, "compute_loss", "loss")
        watch.time(trainer.accelerator, "backward", "backward")
        trainer.add_callback(WarmUp(watch))
        held = reset_peak()
        trainer.train()
    return {
        "seconds": sum(watch.seconds.values()) / (settings.grpo.max_steps - 1),
        "parts": dict(watch.seconds),
        "tokens": sum(len(row.token_ids_T) for row in rows),
        "sampled": sum(sum(row.loss_mask_T) for row in rows),
        "held_mb": held / 1e6,
        "peak_mb": peak_bytes() / 1e6,
    }


class WarmUp(TrainerCallback):  # type: ignore[misc]
    """Forgets the time of the first step."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See `TrainerCallback`."""
        del args, control
        if state.global_step == 1:
            self._watch.seconds.clear()


def find_rows(settings: Settings, spec: Spec) -> tuple[list[Segment], Any]:
    """Return rows, and a tokenizer whose padding id both sides may use."""
    if spec["made_up"]:
        vocab_size = meta_base(settings, None).config.vocab_size
        rows = make_group_rows(spec["rows"], group_size=GROUP_SIZE, vocab_size=vocab_size)
        return rows, tiny_policy.tokenizer()
    return read_rows(settings, spec["rows"]), load_tokenizer(run_tokenizer(settings))


def read_rows(settings: Settings, num_rows: int) -> list[Segment]:
    """Return segments of GRPO's episodes or of demonstrations; half have either sign."""
    grpo, demos = stage_dir(settings, "grpo"), stage_dir(settings, "demos")
    names = grpo.list_episodes("step")
    files = [(grpo, name) for name in names] or [(demos, "demonstrations")]
    episodes = (each for stage, name in files for each in stage.stream_episodes(name))
    rows = [row for each in episodes for row in make_rows(each, advantage=0.5)][:num_rows]
    assert len(rows) == num_rows, f"the episodes have {len(rows)} segments only"
    return [
        row.model_copy(update={"advantage": 0.5 if place % 2 else -0.5})
        for place, row in enumerate(rows)
    ]


def make_stock(settings: Settings, rows: Sequence[Segment], folder: Path, *, tokenizer: Any) -> Any:
    """Return stock TRL that 'generates' the rows in each step and rewards them as they say."""

    def roll_out(prompts: list[str], _: GRPOTrainer) -> dict[str, Any]:
        assert len(prompts) == len(rows)
        pairs = [(row, row.loss_mask_T.index(1)) for row in rows]
        return {
            "prompt_ids": [list(row.token_ids_T[:start]) for row, start in pairs],
            "completion_ids": [list(row.token_ids_T[start:]) for row, start in pairs],
            "logprobs": [list(row.sampling_logps_T[start:]) for row, start in pairs],
            "env_mask": [list(row.loss_mask_T[start:]) for row, start in pairs],
        }

    size, _ = size_stock_microbatch(settings, rows)
    inputs = [{"prompt": ""}] * (len(rows) // GROUP_SIZE * settings.grpo.max_steps)
    return GRPOTrainer(
        make_starting_model(settings),
        reward_funcs=lambda **_: [row.advantage for row in rows],
        args=stock_config(settings, folder, num_rows=len(rows), num_microbatches=len(rows) // size),
        train_dataset=Dataset.from_list(inputs),
        processing_class=tokenizer,
        rollout_func=roll_out,
    )


def size_stock_microbatch(settings: Settings, rows: Sequence[Segment]) -> tuple[int, int]:
    """Return how many rows a micro-batch of stock TRL has, and how many tokens, padding included.

    It pads prompts on the left and completions on the right, each to the longest.
    """
    starts = [row.loss_mask_T.index(1) for row in rows]
    longest = max(starts) + max(
        len(row.token_ids_T) - start for row, start in zip(rows, starts, strict=True)
    )
    most = max(1, settings.grpo.tokens_per_microbatch // longest)
    size = max(each for each in range(1, most + 1) if len(rows) % each == 0)
    return size, size * longest


def make_ours(
    settings: Settings,
    rows: Sequence[Segment],
    folder: Path,
    *,
    tokenizer: Any,
    budget: int | None,
    packs: bool | None = None,
) -> Any:
    """Return our trainer with the rows in each step."""
    groups = settings.grpo.groups_per_step
    return MultiSegmentGRPOTrainer(
        make_starting_model(settings),
        args=derive_grpo_config(settings, folder),
        train_dataset=make_step_dataset(num_steps=settings.grpo.max_steps, groups_per_step=groups),
        processing_class=tokenizer,
        rollouts=lambda request, model: RolloutBatch([rows]),
        tokens_per_microbatch=budget or size_stock_microbatch(settings, rows)[1],
        packs=packs,
    )


def describe(settings: Settings, rows: Sequence[Row]) -> tuple[str, bool]:
    """Return the table, and whether ours is fast enough and takes no more memory."""
    sides = {side: [row for row in rows if row["spec"]["what"] == side] for side in SIDES}
    pairs = list(zip(sides["stock"], sides["ours"], strict=True))
    speed = estimate_ratio([(theirs["seconds"], ours["seconds"]) for theirs, ours in pairs])
    memory = estimate_ratio([(ours["peak_mb"], theirs["peak_mb"]) for theirs, ours in pairs])
    apart = list(zip(sides["padded"], sides["ours"], strict=True))
    sharing = estimate_ratio([(theirs["seconds"], ours["seconds"]) for theirs, ours in apart])
    first, num_rows = rows[0], rows[0]["spec"]["rows"]
    made_up = " made-up" if first["spec"]["made_up"] else ""
    budget = first["spec"]["budget"]
    lines = [
        f"# Loss and backward: stock TRL and ours, {settings.run.name}",
        "",
        f"`python benchmarks/training.py`: {len(pairs)} rounds of {num_rows}{made_up} rows with "
        f"{first['tokens']:,} tokens, {first['sampled']:,} of them sampled"
        f"{f', at most {budget:,} computed at once by ours' if budget else ''}; commit "
        f"{list_commits(rows)}.",
        "",
        f"Ours takes {show_ratio(speed)} as many tokens per second, and its peak is "
        f"{show_ratio(memory)} that of stock TRL. Of that, sharing what rows begin with gives "
        f"{show_ratio(sharing)}.",
        "",
        "| | Tokens per second | Held before, MB | Peak, MB |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {side} | {statistics.fmean(row['tokens'] / row['seconds'] for row in found):,.0f} | "
        f"{statistics.fmean(row['held_mb'] for row in found):,.0f} | "
        f"{statistics.fmean(row['peak_mb'] for row in found):,.0f} |"
        for side, found in sides.items()
    ]
    assert speed.value is not None and memory.value is not None
    return "\n".join(lines) + "\n", speed.value >= LEAST_SPEED and memory.value <= 1


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
