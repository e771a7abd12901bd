"""`tightrope VERB ...`: finds the verb's file and runs it; `tightrope --help` lists the verbs.

From a bare checkout, without installing: `python scripts/main.py VERB ...`. Each verb is a file of
this folder with `main(argv) -> int`, imported only when asked for, so that help never waits for
torch. Training is not a verb: `accelerate launch train/grpo.py` starts one process per device.
"""

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

if not __package__:  # run as a file: look from the repository root, where `scripts` is our package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    package = ModuleType("tightrope_cli")
    package.__path__ = [str(Path(__file__).resolve().parent)]
    sys.modules["tightrope_cli"] = package

from envs.errors import UserError
from train.models.hub import switch_telemetry_off
from train.stages.ending import COMMAND_VARIABLE, end_with_parent, run_main

VERBS = {
    "doctor": "check this machine, and say what would mend it",
    "tasks": "build, show or count tasks",
    "model": "fetch real pretrained weights without a model hub",
    "demos": "execute scripted policies and keep what they solved, for the warm start",
    "evaluate": "measure policies on held-out tasks",
    "report": "write one HTML page about a run",
    "export": "write a servable adapter",
    "launch": "start a training stage, one process per device, as `accelerate launch` does",
}
MODULES = {"tasks": "tasks.build"}  # of a verb that is called otherwise
STAGES = {"demos", "evaluate", "export", "report"}  # have a log file in their folder

USAGE = """usage: tightrope VERB [...]

Trains a small model to repair code while holding as little context as possible.

example:
  tightrope evaluate --config configs/tiny.yaml

verbs (each has --help):
{verbs}

training, one process per device:
  accelerate launch train/sft.py --config configs/tiny.yaml     warm start
  accelerate launch train/grpo.py --config configs/tiny.yaml    reinforcement learning

environment: TIGHTROPE_CACHE, folder of tasks and fetched weights [.cache/tightrope]
exit codes: 0 fine, 1 the run failed, 2 the user's error, 130 Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    switch_telemetry_off(os.environ)
    if COMMAND_VARIABLE in os.environ:
        end_with_parent()
    typed = os.environ.get(COMMAND_VARIABLE, "tightrope")
    return run_main(_dispatch, argv, command=typed, has_log=bool({*argv[:1]} & STAGES))


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        rows = [f"  {verb:<9} {text}" for verb, text in VERBS.items()]
        print(USAGE.format(verbs="\n".join(rows)), end="")
        return 0 if argv else 2
    verb, *rest = argv
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        remedy = f"did you mean `tightrope {near[0]}`?" if near else "see `tightrope --help`"
        raise UserError("unknown verb", got=verb, remedy=remedy)
    code: int = import_module(f"tightrope_cli.{MODULES.get(verb, verb)}").main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
