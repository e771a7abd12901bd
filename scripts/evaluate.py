"""`tightrope evaluate`: plays held-out tasks with every policy and prints the table.

tightrope evaluate --config configs/tiny.yaml
"""

import json
import sys

from train.load import parse_command
from train.run_dir import Stage, open_stage, require


def main(argv: list[str]) -> int:
    """Run the stage; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope evaluate",
        description="Evaluate policies on held-out tasks.",
        example="tightrope evaluate --config configs/tiny.yaml --evaluate.num_samples 4",
    )
    settings = command.settings
    names: list[Stage] = ["tasks", "demos"]
    played = {name.removesuffix("-greedy") for name in settings.evaluate.policies}
    names += [name for name in ("sft", "grpo") if name in played]
    inputs = [require(settings, name, experiment=command.experiment) for name in names]
    from train.evaluate import evaluate, planned

    if command.dry_run:
        for series in planned(settings):
            print(f"{series.name}: {series.num_tasks} tasks x {series.num_samples}")
        return 0
    stage = open_stage(
        settings, "evaluate", resume=command.resume, clean=command.clean, inputs=inputs
    )
    if stage.is_done():
        summary = json.loads((stage.path / "summary.json").read_text(encoding="utf-8"))
    else:
        summary = evaluate(settings, stage)
        stage.finish({"policies": len(summary["policies"])}, output=stage.path / "summary.json")
    from rich.console import Console

    from tightrope_cli.pipeline import results_table

    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(results_table(summary))
    return 0
