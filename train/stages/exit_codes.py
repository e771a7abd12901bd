"""How a command ends: its exit code, one line for what went wrong, and the command that continues.

Exit codes: 0 fine, 1 the run failed, 2 the user's error, 130 Ctrl-C. A bug's traceback stands in
the log of the stage (`train/stages/stage_log.py`), or on the terminal where there is none.

Limits: a process that is killed (SIGKILL, out of memory, a crash in native code) says nothing;
`tightrope launch` and `scripts/pipeline.py` say it for the stages that they started.
"""

import ctypes
import logging
import os
import shlex
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from envs.errors import InfrastructureError, UserError, find_storage_error
from train.stages.stage_log import LibraryLog, say, terminal

COMMAND_VARIABLE = "TIGHTROPE_COMMAND"
"""What the user typed, before the arguments, of a process that another of our commands started;
empty if that command itself says how to go on."""

# What torch's collectives say when a peer dies: gloo, then NCCL.
_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "remote process exited",
    "NCCL communicator was aborted",
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MAX_CHARS = 300  # of what an error says


class Terminated(KeyboardInterrupt):
    """SIGTERM came, and nothing else takes it."""


def run_main(
    main: Callable[[list[str]], int | None],
    argv: Sequence[str],
    *,
    command: str = "",
    has_log: bool = False,
) -> int:
    """Run `main(argv)` and return the exit code.

    Args:
        main: The command.
        argv: Its arguments.
        command: What the user typed before them, for the line that says how to go on; '' leaves
            that to who started this process.
        has_log: Keep what libraries write from the terminal, for a log file in the stage's folder;
            with --debug they write to the terminal.
    """
    # where DeepSpeed is installed, it says on standard output that there is no GPU
    logging.getLogger("DeepSpeed").addFilter(lambda r: "Setting accelerator" not in r.getMessage())
    debug = "--debug" in argv
    with LibraryLog(enabled=has_log and not debug) as log, _terminable():
        try:
            return main(list(argv)) or 0
        except UserError as error:
            if debug:
                traceback.print_exc()
            say(f"error: {error}")
            return 2
        except Terminated as stop:
            say(f"ended by SIGTERM{_again(command, argv, log, stop)}")
            return 1
        except KeyboardInterrupt as stop:
            say(f"\ninterrupted{_again(command, argv, log, stop)}")
            return 130
        except Exception as error:
            code, text, is_bug = _judged(error)
            if not log.write_traceback() and (is_bug or debug):
                traceback.print_exc(file=terminal())
            where = f". Log: {log.path}" if log.path else ""
            say(f"error: {text}{where}{_again(command, argv, log, error)}")
            return code


@contextmanager
def keep_note(kept: str) -> Iterator[None]:
    """Let the line after Ctrl-C, SIGTERM or a fault say what is kept of what runs inside."""
    try:
        yield
    except BaseException as stop:
        stop.add_note(kept)
        raise


def _judged(error: Exception) -> tuple[int, str, bool]:
    """Return the exit code, what to say, and whether it is a bug."""
    if isinstance(error, InfrastructureError) and error.part == "server":
        remedy = "see its log, vllm_N.txt in the stage's folder if this run started it"
        return 1, f"{error}. Remedy: {remedy}", False
    if isinstance(error, InfrastructureError):
        remedy = "look at the machine's load; `tightrope doctor` checks the sandbox"
        return 1, f"the sandbox failed: {error}. Remedy: {remedy}", False
    if of_the_disk := find_storage_error(error):
        return 2, str(of_the_disk), False
    said = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_CHARS]
    if any(sign in str(error) for sign in _LOST_PEER):
        remedy = "see what ended it (memory?)"
        return 1, f"another process of this run has ended (got: {said}). Remedy: {remedy}", False
    return 1, said, True


def _again(command: str, argv: Sequence[str], log: LibraryLog, error: BaseException) -> str:
    """Return the end of a line that names the command that continues; '' if another one says it."""
    if not command:
        return ""
    if not log.resumes:
        kept = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        what = "to go on" if kept else "to try again"
        return f"{kept}; {what}: {shlex.join([*shlex.split(command), *argv])}"
    return f"; to go on: {resuming(command, argv)}"


def resuming(command: str, argv: Sequence[str]) -> str:
    """Return the command line that continues a stage; '' if another one says it."""
    if not command:
        return ""
    kept = [word for word in argv if word not in ("--clean", "--resume")]
    return shlex.join([*shlex.split(command), *kept, "--resume"])


def end_with_parent() -> None:
    """Ask Linux for a SIGTERM when the launcher dies: `accelerate launch` does not pass it on."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind this process as Ctrl-C does, unless something else already takes it."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() == owner:
            raise Terminated
        signal.signal(number, signal.SIG_DFL)  # a process that was forked off
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
