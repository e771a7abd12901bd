"""GRPO, as a command: parses, then runs `train/recipes/grpo.py`.

    accelerate launch train/grpo.py --config configs/tiny.yaml --grpo.learning_rate 2e-6

Tests: tests/train/recipes/test_grpo.py.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: look from the repository root, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
from dataclasses import replace

from train.config.conflicts import check_groups
from train.config.load import parse_command
from train.models.hub import switch_telemetry_off
from train.stages.exit_codes import COMMAND_VARIABLE, end_with_parent, resuming, run_main

PROGRAM = "accelerate launch train/grpo.py"


def main(argv: list[str]) -> int:
    """Run the stage; torch waits until the command line is known to be right."""
    command = parse_command(
        argv,
        prog=PROGRAM,
        description="Multi-segment GRPO with LoRA.",
        example=f"{PROGRAM} --config configs/tiny.yaml --grpo.learning_rate 2e-6",
    )
    world_size = int(os.environ.get("WORLD_SIZE", "1"))  # the launcher sets it
    grpo = command.settings.grpo
    check_groups(grpo.groups_per_step, grpo.group_size, world_size)
    command = replace(command, again=resuming(_typed(), argv))
    from train.recipes.grpo import run

    return run(command, world_size=world_size)


def _typed() -> str:
    """Return what the user typed before the arguments; '' if another command says how to go on."""
    return os.environ.get(COMMAND_VARIABLE, PROGRAM)


if __name__ == "__main__":
    end_with_parent()
    switch_telemetry_off(os.environ)
    sys.exit(run_main(main, sys.argv[1:], command=_typed(), has_log=True))
