"""`tightrope tasks add NAME[==VERSION]`: adds a project of PyPI to the lock file.

    tightrope tasks add semver --split train
    tightrope tasks add tabulate==0.10.0 --exclude test/test_cli.py

A project needs a tar.gz sdist with its tests, the text of a permissive licence (MIT, BSD,
Apache-2.0, PSF, ISC), pure Python, and a suite that passes in the sandbox within five CPU seconds.
"""

from pathlib import Path

from tightrope_cli.tasks.task_set import EXCLUDE, LOCK, SPLIT
from train.config.load import Flag, default_cache, parse_flags

_EXCLUDED_SHOWN = 10


def main(argv: list[str]) -> int:
    """Add one project; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope tasks add",
        description=__doc__.partition("\n\n")[2].rpartition("\n\n")[2].strip(),
        example="tightrope tasks add semver --split train",
        flags=[
            Flag("name", "a project's name on PyPI, or NAME==VERSION"),
            SPLIT,
            EXCLUDE,
            Flag("--requires", "packages that its code or tests need beside pytest", nargs="*"),
            Flag("--lock", "the lock file", kind=Path, default=LOCK),
        ],
    )

    from envs.projects.add_project import add

    entry = add(
        flags["name"],
        split=flags["split"],
        lock=flags["lock"],
        cache_dir=default_cache(),
        exclude=flags["exclude"] or (),
        requires=flags["requires"] or (),
    )
    print(
        f"{entry.name} {entry.version}: {entry.num_tests} tests in {entry.suite_s} CPU seconds, "
        f"{entry.licence}, {len(entry.mutated)} files to mutate, split {entry.split}"
    )
    for test, reason in list(entry.excluded_tests.items())[:_EXCLUDED_SHOWN]:
        print(f"  excluded {test}: {reason}")
    more = len(entry.excluded_tests) - _EXCLUDED_SHOWN
    if more > 0:
        print(f"  and {more} more")
    return 0
