"""Test runs per second and per CPU second: cold pytest, the same in bubblewrap, our sandbox.

    python benchmarks/sandbox.py --out benchmarks/results/sandbox.md

About 6 minutes on 2 idle CPU cores; needs bubblewrap. All run the same file of five tests on a tree
of their own, written anew for every run, and the result of each run is checked. The first two are
`python -m pytest` as it is installed here, without and within bubblewrap; the third is the
project's second runner (envs/grading/bwrap_runner.py): bubblewrap as well, but pytest loads no
plugins of other packages. Ours has all layers of this machine and mixes in its canary tests. Rounds
take turns, so that what else the machine does meets all alike.

CPU seconds are those of all processes of a side, the long-lived server and its start included; the
machine's own count beside them also has what the kernel does later, and whatever else runs.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from envs.grading.bwrap_runner import REPORT, bubblewrap, require_bubblewrap, run_cold
from envs.grading.canaries import draw_canaries, order_like
from envs.grading.graded_suite import NUM_CANARIES
from envs.grading.test_suite import run_suite
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.levels import probe
from train.stages.exit_codes import run_main
from train.stages.progress import Progress

TREE = {
    "shapes.py": "def area(a, b):\n    return a * b\n",
    "tests/test_shapes.py": "import pytest\nfrom shapes import area\n\n"
    "@pytest.mark.parametrize('side', [1, 2, 3, 4, 5])\n"
    "def test_area(side):\n    assert area(side, side) == side**2\n",
}
IDS = [f"tests/test_shapes.py::test_area[{side}]" for side in range(1, 6)]
ARGUMENTS = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
# The second runner's bubblewrap does not wait for what it started: that says itself what it used.
TOLD = f"""import os, pytest, time
os.dup2(os.open({REPORT!r}, os.O_WRONLY | os.O_CREAT), 1)
pytest.main({ARGUMENTS[2:]})
print(time.process_time())
"""
LIMIT_S = 60.0
WORKERS = (1, 2)
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

Run = Callable[[], float]  # one run; returns CPU seconds that no wait of ours accounts for


@dataclass(frozen=True)
class Measured:
    """One side of one round: runs per wall second, CPU milliseconds per run, own and machine's."""

    rate: float
    cpu_ms: float
    machine_ms: float


def cold(_: ExitStack) -> Run:
    """Start the interpreter on a fresh folder, as graders without a sandbox do."""

    def run() -> float:
        with fresh_tree() as folder:
            done = said([sys.executable, *ARGUMENTS], folder)
        assert "5 passed" in done, done
        return 0.0

    return run


def cold_in_bubblewrap(_: ExitStack) -> Run:
    """Start the same interpreter under bubblewrap, in namespaces of its own on a read-only root."""
    program = bubblewrap().program

    def run() -> float:
        with fresh_tree() as folder:
            places = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
            line = [program, "--unshare-all", "--die-with-parent", "--new-session", *places]
            line += ["--bind", str(folder), str(folder), "--chdir", str(folder)]
            line += ["--as-pid-1"]  # or bubblewrap would not wait for it, nor anyone count its time
            done = said([*line, sys.executable, *ARGUMENTS], folder)
        assert "5 passed" in done, done
        return 0.0

    return run


@contextmanager
def fresh_tree() -> Iterator[Path]:
    """Yield a folder with the tree in it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in TREE.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        yield Path(folder)


def said(line: Sequence[str], folder: Path) -> str:
    """Run a command in a folder and return what it prints."""
    where = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run(
        line,
        cwd=folder,
        env=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def second(_: ExitStack) -> Run:
    """Start the interpreter as the second runner does."""
    require_bubblewrap()  # complains if it cannot run here

    def run() -> float:
        files = TREE | {"pytest.ini": "[pytest]\npythonpath = .\n", "told.py": TOLD}
        done = run_cold(files, arguments=["told.py"], ids=(), limit_s=LIMIT_S)
        assert "5 passed" in done.report, done
        return float(done.report.split()[-1])

    return run


def ours(stack: ExitStack) -> Run:
    """Fork a preloaded server."""
    server = stack.enter_context(ForkServer(preload="pytest"))

    def run() -> float:
        canaries = draw_canaries(
            TREE, IDS, count=NUM_CANARIES, like=order_like(IDS, ()), patterns=("test",), seed=""
        )
        suite = run_suite(server, TREE, ids=IDS, wall_s=LIMIT_S, canaries=canaries)
        assert suite.passed == frozenset(IDS) and suite.num_canaries_failed == NUM_CANARIES, suite
        return suite.cpu_s

    return run


SIDES = {
    "cold pytest": cold,
    "cold pytest in bubblewrap": cold_in_bubblewrap,
    "second runner": second,
    "ours": ours,
}


def measure(side: Callable[[ExitStack], Run], *, num_runs: int, workers: int) -> Measured:
    """Run one side `num_runs` times, `workers` at once."""
    with ExitStack() as stack:
        before, machine = own_cpu_s(), machine_cpu_s()
        run = side(stack)
        run()  # the server starts; counted as CPU time, as for a short session, not as time
        began = time.monotonic()
        with ThreadPoolExecutor(workers) as pool:
            unseen = sum(pool.map(lambda _: run(), range(num_runs - 1)))
        wall_s = time.monotonic() - began
    cpu_s, machine_s = own_cpu_s() - before + unseen, machine_cpu_s() - machine
    return Measured((num_runs - 1) / wall_s, 1000 * cpu_s / num_runs, 1000 * machine_s / num_runs)


def own_cpu_s() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def machine_cpu_s() -> float:
    """Return the CPU seconds in which the machine did anything since it was started."""
    fields = Path("/proc/stat").read_text("ascii").partition("\n")[0].split()[1:]
    user, nice, system, _, _, interrupt, soft_interrupt = map(int, fields[:7])
    return TICK_S * (user + nice + system + interrupt + soft_interrupt)


def spread(values: Sequence[float], form: str) -> str:
    """Return the median and the range."""
    return f"{median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def tables(found: dict[tuple[str, int], list[Measured]]) -> list[str]:
    """Return the table of sides and the ratios."""
    lines = [
        "| runner | workers | runs per second | CPU ms per run | machine's CPU ms per run |",
        "|---|---|---|---|---|",
    ]
    for (name, workers), rounds in found.items():
        cells = (
            spread([each.rate for each in rounds], ".1f"),
            spread([each.cpu_ms for each in rounds], ".1f"),
            spread([each.machine_ms for each in rounds], ".1f"),
        )
        lines.append(f"| {name} | {workers} | {' | '.join(cells)} |")
    lines += ["", "| ratio, median [range] of rounds | |", "|---|---|"]
    for name in list(SIDES)[:-1]:
        for field, told in (("cpu_ms", "per CPU second"), ("machine_ms", "per machine's")):
            pairs = zip(found[name, 1], found["ours", 1], strict=True)
            ratios = [getattr(theirs, field) / getattr(mine, field) for theirs, mine in pairs]
            lines.append(f"| runs {told}, ours : {name} | {spread(ratios, '.2f')} |")
    for name in SIDES:
        pairs = zip(found[name, 2], found[name, 1], strict=True)
        rates = [two.rate / one.rate for two, one in pairs]
        lines.append(f"| runs per second, 2 workers : 1, {name} | {spread(rates, '.2f')} |")
    return lines


def main(argv: list[str]) -> int:
    """Measure all sides and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sandbox.md"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200, help="of ours; the cold ones a fifth")
    given = parser.parse_args(argv)
    found: dict[tuple[str, int], list[Measured]] = {}
    total = given.rounds * len(SIDES) * len(WORKERS)
    with Progress("sandbox", total=total, unit="measurements") as progress:
        for _ in range(given.rounds):
            for name, side in SIDES.items():
                for workers in WORKERS:
                    runs = given.runs if name == "ours" else max(4, given.runs // 5)
                    measured = measure(side, num_runs=runs, workers=workers)
                    found.setdefault((name, workers), []).append(measured)
                    progress.advance()
    asked = [bubblewrap().program, "--version"]
    program = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# Test runs of four runners",
        "",
        f"`python benchmarks/sandbox.py --rounds {given.rounds} --runs {given.runs}`; median and "
        f"range of {given.rounds} rounds; {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, pytest {version('pytest')}, {program}, "
        f"Linux {platform.release()}; sandbox level {probe().level}.",
        "",
        *tables(found),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
