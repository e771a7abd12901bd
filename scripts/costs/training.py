"""`tightrope cost training --config FILE`: memory of one device, part by part, before any weights.

    tightrope cost training --config configs/qwen3b.yaml --model.base ./shape

The base may be a folder with a config.json alone. With weights, tasks and this machine at hand, the
stage's own `--dry-run` tells more: it measures. `--json` prints the bytes of each layout.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from train.config.load import Flag, parse_command

_STAGES = ("sft", "grpo")


def main(argv: Sequence[str]) -> int:
    """Print the table; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope cost training",
        description="Prints the memory that a training config takes on one device.",
        example="tightrope cost training --config configs/qwen3b.yaml",
        flags=[
            Flag("--stage", "which", default="grpo", choices=_STAGES),
            Flag("--cpu", "of one process on a CPU, in place of GPUs", kind=bool),
            Flag("--json", "print a record", kind=bool),
        ],
        common=(),
    )
    from train.recipes.memory_table import (  # torch takes seconds to load
        GPU_LAYOUTS,
        Layout,
        estimate_layouts,
        format_memory,
        plan_model,
    )

    settings, stage = command.settings, command.flags["stage"]
    layouts = {"1 process, CPU": Layout(1, on_cpu=True)} if command.flags["cpu"] else GPU_LAYOUTS
    model = plan_model(settings, stage, now=datetime.now())
    columns = estimate_layouts(settings, stage, model, layouts)
    if command.flags["json"]:
        found = {
            title: {**asdict(memory), "held": memory.held, "peak": memory.peak}
            for title, memory in columns.items()
        }
        print(json.dumps(found))
    else:
        print(format_memory(columns, model))
    return 0
