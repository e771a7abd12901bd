"""An experiment without a file: one task set, played by scripts and by models named by path.

    tightrope evaluate --tasks DIR --policies gold ./my-model

Windows and limits are those of configs/qwen3b.yaml, which fit files of real projects. Nothing is
trained: tokens are counted by a tokenizer made of the set's own texts, or by that of the model in
`model.base`. Any setting can be given as --section.field VALUE.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs.errors import UserError
from envs.records import Split
from envs.tasks.store import Manifest
from train.config.settings import Settings

MOST_TASKS = 100  # of an evaluation, as `evaluate.num_tasks`
HELD_OUT: tuple[Split, ...] = ("test", "dev", "train")  # first choice first, for an evaluation


def choose_split(folder: Path, order: Sequence[Split]) -> tuple[Split, int]:
    """Return the first split of a set that has tasks, and how many.

    Raises:
        UserError: There is no set.
    """
    counts = Manifest.read(folder).counts
    for split in order:
        if counts.get(split):
            return split, counts[split]
    raise UserError("a task set without a task", got=str(folder), remedy="build it again")


def describe_alone(folder: Path) -> dict[str, Any]:
    """Return the sections of an experiment that plays the set in a folder.

    Raises:
        UserError: There is no set.
    """
    split, count = choose_split(folder, HELD_OUT)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.expanduser().resolve().name).lstrip("._-")
    num_tasks = min(MOST_TASKS, count)
    return {
        "run": {"name": f"set-{name}"},  # no experiment's own
        "model": {"base": "tiny"},
        "tasks": {"dir": str(folder), split: count},
        "context": {
            "window_tokens": [4096, 8192],
            "max_turns": 30,
            "max_new_tokens": 768,
            "observation_tokens": 1536,
            "max_sampled_tokens": 8192,
        },
        "sft": {"num_demonstrations": count, "wasteful_share": 0, "needs_rewrite_share": 0},
        "grpo": {"tokens_per_microbatch": 8192},
        "evaluate": {
            "split": split,
            "num_tasks": num_tasks,
            "policies": ["gold", "careful", "noop"],
        },
    }


def describe_counting(settings: Settings) -> str:
    """Return two lines on what is played, in what windows, and whose tokens are counted."""
    whose = f"the tokenizer of {settings.model.base}"
    if settings.model.kind == "tiny":
        whose = "a tokenizer made of the set's own texts (--model.base NAME: that of a model)"
    return f"{settings.tasks.dir}: windows of {settings.context.window_range}\ntokens: of {whose}"
