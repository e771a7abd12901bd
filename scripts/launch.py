"""`tightrope launch`: `accelerate launch`, but a stage that dies ends in one line.

    tightrope launch train/grpo.py --config configs/tiny.yaml
    tightrope launch --config_file configs/accelerate/zero2.yaml train/grpo.py --config FILE

Takes what `accelerate launch` takes and starts the same processes. What differs: no notice about
values that accelerate chose by itself, no traceback of accelerate on top of what the stage said,
the stage's own exit code, and for a stage that could say nothing (SIGKILL, out of memory, a crash
in native code) the command that goes on.
"""

import contextlib
import io
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from envs.errors import UserError
from train.stages.exit_codes import COMMAND_VARIABLE, Terminated, resuming
from train.stages.stage_log import say

USAGE = """usage: tightrope launch [arguments of `accelerate launch`] SCRIPT [arguments of SCRIPT]

Starts a training stage, one process per device; `accelerate launch --help` lists its arguments.

example:
  tightrope launch train/sft.py --config configs/tiny.yaml
"""


class Ended(NamedTuple):
    """How a process ended: its exit status, negative for a signal, and which one it was."""

    status: int
    what: str


def main(argv: list[str]) -> int:
    """Start the script and wait for it; returns its exit code, 1 if it was killed."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    noise = io.StringIO()  # the launcher's own; the processes that it starts write as they do
    with contextlib.redirect_stderr(noise), contextlib.redirect_stdout(noise):
        args = _parsed(argv, noise)
        given = list(args.training_script_args)
        words = ["tightrope", "launch", *argv[: len(argv) - len(given)]]
        command = os.environ.setdefault(COMMAND_VARIABLE, shlex.join(words))
        ended = _run(args)
    if ended.status >= 0:
        return ended.status
    if ended.status == -signal.SIGINT:
        return 130
    say(f"{killed(ended)}{f'; to go on: {resuming(command, given)}' if command else ''}")
    return 1


def killed(ended: Ended) -> str:
    """Say in words which signal ended a process."""
    name = signal.Signals(-ended.status).name
    return f"{ended.what} was killed by {name}{' (no memory left?)' if name == 'SIGKILL' else ''}"


def _parsed(argv: Sequence[str], noise: io.StringIO) -> Any:
    from accelerate.commands.launch import launch_command_parser

    try:
        return launch_command_parser().parse_args(argv)
    except SystemExit:
        said = noise.getvalue().rstrip().rpartition("\n")[2].rpartition("error: ")[2]
        remedy = "see `accelerate launch --help`"
        raise UserError("accelerate does not start this", got=said, remedy=remedy) from None


def _run(args: Any) -> Ended:
    """Launch, and return how it ended; of several processes the one that ended first."""
    from accelerate.commands.launch import launch_command
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    script = args.training_script
    try:
        launch_command(args)
    except subprocess.CalledProcessError as error:
        return Ended(error.returncode, script)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        return Ended(failure.exitcode, f"process {rank} of {script}")
    except SignalException as error:
        return Ended(130 if error.sigval == signal.SIGINT else 1, script)
    except KeyboardInterrupt as error:
        return Ended(_last_words(asked_to_end=isinstance(error, Terminated)), script)
    except (ValueError, ImportError) as error:
        remedy = "see `accelerate launch --help`"
        raise UserError("accelerate does not start this", got=str(error), remedy=remedy) from error
    return Ended(0, script)


def _last_words(*, asked_to_end: bool) -> int:
    """Wait for the process that was started; Ctrl-C reached it too, SIGTERM is passed on to it."""
    me = os.getpid()
    if asked_to_end:
        for pid in Path(f"/proc/{me}/task/{me}/children").read_text("ascii").split():
            os.kill(int(pid), signal.SIGTERM)
    try:
        return os.waitstatus_to_exitcode(os.wait()[1])
    except (ChildProcessError, KeyboardInterrupt):
        return 130
