"""All stages of one experiment in order; goes on at the first unfinished one when run again.

    python scripts/pipeline.py --config configs/tiny.yaml

`make demo` and `make smoke` are this file. Each stage is the command that a user would type; one
that wrote its `done` marker is skipped, a half-done one is resumed or started over. Dotted
overrides go to every stage. However a stage ends, the last line is the command that goes on.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: look from the repository root, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console
from rich.table import Table

from envs.errors import UserError
from envs.records import Split
from rewards.metrics import format_row
from train.config.load import Command, parse_command
from train.stages.exit_codes import COMMAND_VARIABLE, Terminated, run_main
from train.stages.open_stage import config_changes, require
from train.stages.progress import duration
from train.stages.run_dir import COMMANDS, Stage, stage_dir
from train.stages.stage_log import say

ROOT = Path(__file__).resolve().parents[1]


STAGES: dict[Stage, str] = {
    "tasks": "build tasks",
    "demos": "execute demonstrations",
    "sft": "warm start",
    "grpo": "reinforcement learning",
    "evaluate": "evaluate on held-out tasks",
    "export": "export the adapter",
    "report": "write the report",
}
RESUMABLE: tuple[Stage, ...] = ("sft", "grpo", "evaluate")  # the others are short: started over


def main(argv: list[str]) -> int:
    """Run every unfinished stage; returns the exit code of the first that fails."""
    command = parse_command(
        argv,
        prog="python scripts/pipeline.py",
        description="Runs all stages of one experiment in order, skipping finished ones.",
        example="python scripts/pipeline.py --config configs/tiny.yaml",
        common=("--clean", "--force"),
    )
    overrides = list(command.overrides)
    timings: list[str] = []
    for number, (stage, does) in enumerate(STAGES.items(), start=1):
        title = f"[{number}/{len(STAGES)}] {does}"
        if not command.clean and _is_done(command, stage):
            print(f"{title}: finished before, skipped{_changed(command, stage)}", flush=True)
            continue
        arguments = ["--config", str(command.config), *_flags(command, stage), *overrides]
        print(f"{title}: {COMMANDS[stage]} {' '.join(arguments)}", flush=True)
        began = time.monotonic()
        code = _exit_code([*_executable(COMMANDS[stage]), *arguments])
        if code or not _is_done(command, stage):
            say(f"{title} stopped{_why(command, stage, code)}; to go on: {_again(argv)}")
            return code if code > 0 else 1
        timings.append(f"{stage} {duration(time.monotonic() - began)}")
    _show_results(command, timings)
    return 0


def _exit_code(line: list[str]) -> int:
    """Run a stage and return its exit code, negative for a signal; see it through to its end."""
    process = subprocess.Popen(line, env=_environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt as error:  # Ctrl-C reached the stage as well
            if isinstance(error, Terminated):
                process.terminate()


def _why(command: Command, stage: Stage, code: int) -> str:
    """Say what the stage could not say itself, and where its log is."""
    log = stage_dir(command.settings, stage).path / "log.txt"
    where = f" (log: {log})" if code not in (0, 2, 130) and log.is_file() else ""
    return f", killed by {signal.Signals(-code).name}{where}" if code < 0 else where


def _again(argv: list[str]) -> str:
    """Return the same command, as it was typed; `--clean` would start over."""
    program = sys.orig_argv[: len(sys.orig_argv) - len(argv)]
    return shlex.join([*program, *(word for word in argv if word != "--clean")])


def _is_done(command: Command, stage: Stage) -> bool:
    """Tell whether a stage is whole; raises if it was made from another one."""
    try:
        require(command.settings, stage, experiment=command.experiment)
    except UserError:
        if stage_dir(command.settings, stage).is_done():
            raise
        return False
    return True


def _changed(command: Command, stage: Stage) -> str:
    changes = config_changes(stage_dir(command.settings, stage), command.settings)
    return (
        f" although settings changed ({', '.join(changes)}); --clean starts over" if changes else ""
    )


def _flags(command: Command, stage: Stage) -> list[str]:
    flags = ["--force"] if command.force and stage == "grpo" else []
    half_done = stage_dir(command.settings, stage).path.exists()
    if command.clean or (half_done and stage not in RESUMABLE):
        return [*flags, "--clean"]
    return [*flags, "--resume"] if half_done else flags


def _executable(command: str) -> list[str]:
    """Return the user's command as this interpreter runs it from a bare checkout too."""
    program, *rest = command.split()
    if program == "tightrope":
        return [sys.executable, str(ROOT / "scripts" / "main.py"), *rest]
    return [sys.executable, str(ROOT / "scripts" / "main.py"), "launch", str(ROOT / rest[-1])]


def _environment() -> dict[str, str]:
    """Return the environment of a stage: it leaves the last word to this file.

    All cores are for torch: accelerate would grant a run on a CPU one.
    """
    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ, COMMAND_VARIABLE: ""}


def _show_results(command: Command, timings: list[str]) -> None:
    settings = command.settings
    evaluated = stage_dir(settings, "evaluate")
    print_results(evaluated.read_json("summary.json"), split=settings.evaluate.split)
    for name, path in (
        ("report", stage_dir(settings, "report").path / "index.html"),
        ("adapter", stage_dir(settings, "export").path),
        ("numbers", evaluated.path / "summary.json"),
        ("episodes", stage_dir(settings, "grpo").episodes),
    ):
        print(f"{name:<9} {path}")
    if timings:
        print(f"{'times':<9} {', '.join(timings)}")


def print_results(summary: dict[str, Any], *, split: Split) -> None:
    """Print the policies of `summary.json`, on tasks of a split, as a table."""
    columns = "policy|sampling|tasks|samples|pass rate|tokens per solved|peak p50/p95|turns"
    table = Table(*columns.split("|"), title=f"{split} tasks, with 95 % intervals over them")
    for row in summary["policies"]:
        table.add_row(*format_row(row))
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
