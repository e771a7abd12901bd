"""Warm start, as a command: parses, then runs `train/recipes/sft.py`.

    accelerate launch train/sft.py --config configs/tiny.yaml

Tests: tests/train/recipes/test_sft.py.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: look from the repository root, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
from dataclasses import replace

from train.config.load import parse_command
from train.models.hub import switch_telemetry_off
from train.stages.exit_codes import COMMAND_VARIABLE, end_with_parent, resuming, run_main

PROGRAM = "accelerate launch train/sft.py"


def main(argv: list[str]) -> int:
    """Run the stage; torch waits until the command line is known to be right."""
    command = parse_command(
        argv,
        prog=PROGRAM,
        description="Warm start on solved demonstrations.",
        example=f"{PROGRAM} --config configs/tiny.yaml",
    )
    command = replace(command, again=resuming(_typed(), argv))
    from train.recipes.sft import run

    return run(command, world_size=int(os.environ.get("WORLD_SIZE", "1")))  # the launcher sets it


def _typed() -> str:
    """Return what the user typed before the arguments; '' if another command says how to go on."""
    return os.environ.get(COMMAND_VARIABLE, PROGRAM)


if __name__ == "__main__":
    end_with_parent()
    switch_telemetry_off(os.environ)
    sys.exit(run_main(main, sys.argv[1:], command=_typed(), has_log=True))
