"""`tightrope VERB ...`: finds the verb's file and runs it; `tightrope --help` lists the verbs.

From a bare checkout, without installing: `python scripts/main.py VERB ...`. Each verb is a file
with `main(argv) -> int`, imported only when it is called, so that help never waits for torch.
Training is not a verb: `accelerate launch train/grpo.py` starts one process per device.
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
from train.stages.exit_codes import COMMAND_VARIABLE, end_with_parent, run_main

VERBS = {
    "doctor": ("doctor", "check this machine, and name a remedy for what it lacks"),
    "tasks build": ("tasks.build", "make tasks and check each with the real grader"),
    "tasks show": ("tasks.show", "print one task; --private adds the answer"),
    "tasks stats": ("tasks.stats", "count tasks by split, operator and size; histograms as PNGs"),
    "tasks validate": ("tasks.validate", "grade gold and no-op of every task of a set again"),
    "tasks add": ("tasks.add", "add a project of PyPI to the lock file of the `projects` source"),
    "tasks import": ("tasks.import_instances", "make a task set of SWE-smith-style instances"),
    "model fetch": ("model", "fetch real pretrained weights without a model hub"),
    "demos": ("demos", "execute scripted policies and keep what they solved, for the warm start"),
    "evaluate": ("evaluate", "measure policies on held-out tasks"),
    "cost model": ("costs.model", "show what a request keeps and computes, by its length"),
    "cost session": ("costs.session", "show tokens, money and time of a session, turn by turn"),
    "cost training": ("costs.training", "show the memory that a training config takes"),
    "cost run": ("costs.run", "show what a run took, and the money for one solved episode"),
    "budget": ("budget", "show what the tokens of an episode, or of texts, are spent on"),
    "report": ("report", "write one HTML page about a run"),
    "rescore": ("rescore", "score saved training episodes again, under another reward"),
    "fork": ("fork", "play on from saved turns: what rewriting the context was worth there"),
    "export": ("export", "write a servable adapter"),
    "launch": ("launch", "start a training stage as `accelerate launch` does"),
}
"""What one types: the module of this folder that does it, and what for."""
GROUPS = {
    "tasks": "Makes task sets and looks into them.",
    "model": "Fetches models.",
    "cost": "Says what a model, a session, a training or a run costs.",
}
"""First words of several verbs, with what all of them do."""
STAGES = {"demos", "evaluate", "export", "fork", "report"}  # have a log file in their folder

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
GROUP_USAGE = """usage: tightrope {group} VERB [...]

{about}

verbs (each has --help, with an example):
{verbs}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    switch_telemetry_off(os.environ)
    if COMMAND_VARIABLE in os.environ:
        end_with_parent()
    typed = os.environ.get(COMMAND_VARIABLE, "tightrope")
    return run_main(run_verb, argv, command=typed, has_log=bool({*argv[:1]} & STAGES))


def run_verb(argv: list[str]) -> int:
    """Run the verb that the line begins with, or list those of which it gives no more than a part.

    Raises:
        UserError: There is no such verb, or the verb raised it.
    """
    for verb, (module, _) in VERBS.items():
        words = verb.split()
        if argv[: len(words)] == words:
            code: int = import_module(f"tightrope_cli.{module}").main(argv[len(words) :])
            return code
    is_help = argv[-1:] in (["-h"], ["--help"])
    typed = argv[:-1] if is_help else argv
    rows = [
        f"  {verb:<15} {does}"
        for verb, (_, does) in VERBS.items()
        if verb.split()[: len(typed)] == typed
    ]
    if rows:
        text = USAGE if not typed else GROUP_USAGE
        about = GROUPS.get(" ".join(typed), "")
        print(text.format(verbs="\n".join(rows), group=" ".join(typed), about=about), end="")
        return 0 if is_help else 2
    wrong = " ".join(typed[: 2 if any(verb.startswith(f"{typed[0]} ") for verb in VERBS) else 1])
    near = difflib.get_close_matches(wrong, VERBS, n=1)
    remedy = f"did you mean `tightrope {near[0]}`?" if near else "see `tightrope --help`"
    raise UserError("unknown verb", got=wrong, remedy=remedy)


if __name__ == "__main__":
    sys.exit(main())
