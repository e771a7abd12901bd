"""Tests that race: the same ones many times over, alone and beside busy neighbours.

    python benchmarks/races.py --times 10 --neighbours 4

Runs the tests of sandbox, attacks and processes (or those named) in one pytest after another, half
of them beside loops that never wait, and counts failures by test. A pass takes minutes; the table
is written to benchmarks/results/races.md after each. The exit code is 1 if any test failed.

Not covered: tests that fail in another order or in parallel; other loads than of the processor.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
    tests/attacks tests/envs/sandbox tests/envs/grading/test_bwrap_runner.py
    tests/envs/workers/test_pool.py tests/train/recipes/test_processes.py
    tests/train/recipes/test_resume.py
"""


@dataclass
class Tally:
    """What came of all passes of one kind."""

    num_passes: int = 0
    num_tests: int = 0
    num_skipped: int = 0
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Run all passes; returns 1 if any test failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tests", nargs="*", default=TESTS.split())
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--neighbours", type=int, default=2 * len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=("alone", "busy"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "races.md")
    given = parser.parse_args()
    loads = {"alone": 0, "busy": given.neighbours}
    tallies = {name: Tally() for name in loads if given.only in (None, name)}
    for _ in range(given.times):
        for name, tally in tallies.items():
            with neighbours(loads[name]):
                run(given.tests, tally)
            text = table(tallies, given, loads)
            given.out.write_text(text, "utf-8")
    print(text)
    return int(any(tally.failures for tally in tallies.values()))


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Keep processes beside the tests that never wait."""
    line = [sys.executable, "-S", "-c", "while True: pass"]
    running = [subprocess.Popen(line) for _ in range(number)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run(tests: list[str], tally: Tally) -> None:
    """Run the tests once and count."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        began = time.monotonic()
        line = [sys.executable, "-m", "pytest", *options, *tests]
        subprocess.run(line, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        tally.seconds.append(time.monotonic() - began)
        cases = list(ElementTree.parse(report).iter("testcase"))
    tally.num_passes += 1
    tally.num_tests += len(cases)
    for case in cases:
        kinds = {child.tag for child in case}
        tally.num_skipped += "skipped" in kinds
        if kinds & {"failure", "error"}:
            tally.failures[f"{case.get('classname')}::{case.get('name')}"] += 1


def table(tallies: dict[str, Tally], given: argparse.Namespace, loads: dict[str, int]) -> str:
    """Return the counts as Markdown."""
    lines = [
        "# Tests that race",
        "",
        f"`python benchmarks/races.py --times {given.times} --neighbours {given.neighbours}`: "
        f"{' '.join(given.tests)}; {len(os.sched_getaffinity(0))} cores, "
        f"{'root' if os.getuid() == 0 else 'an ordinary user'}.",
        "",
        "| Beside | Passes | Tests run | Skipped | Failures | Minutes per pass |",
        "|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        if tally.num_passes:
            minutes = sorted(seconds / 60 for seconds in tally.seconds)
            beside = f"{loads[name]} busy loops" if loads[name] else "nothing of ours"
            lines.append(
                f"| {beside} | {tally.num_passes} | {tally.num_tests:,} | {tally.num_skipped} | "
                f"{sum(tally.failures.values())} | {minutes[0]:.1f} to {minutes[-1]:.1f} |"
            )
    for name, tally in tallies.items():
        for test, count in tally.failures.most_common():
            lines += [""] if lines[-1].startswith("|") else []
            lines.append(f"- {test} failed {count} times of {tally.num_passes} ({name})")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
