"""Ten thousand graded runs, every twentieth a bomb or a hang: does anything grow, is any wrong?

    python benchmarks/endurance.py --out benchmarks/results/endurance.md

About 20 minutes on 2 idle CPU cores. Repairs, broken trees and bombs take turns at both graders,
two at a time. A run is wrong if a repair does not pass, anything else does, or the sandbox failed;
it is late if it comes back after its limit and the grace for a busy machine. What this process and
its servers hold is counted before, after the first tenth and at the end. The exit code is 1 if a
run was wrong or late, or if anything is left that was not there before.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from envs.grading.graders import RoutingGrader, make_grader
from envs.sandbox.kernel import cgroups
from envs.sandbox.levels import MEMORY_BYTES, probe
from tests.attacks.attempts import LATE_S, PRELUDE, attacks, name_of
from tests.attacks.defences import make_io_task, make_pytest_task
from tests.attacks.suites import SUITES
from tests.attacks.world import descendants, settles
from tests.envs.small_tasks import FIXED, is_solved, store_of
from train.stages.exit_codes import run_main
from train.stages.progress import Progress

LIMIT_S = 2.0
BOMB_EVERY = 20
WORKERS = 2
CHUNK = 100
BOMBS = (
    *("fork_bomb", "thread_bomb", "memory_bomb", "disk_fill", "inode_fill", "output_flood"),
    *("result_flood", "endless_loop", "endless_sleep", "daemon", "stop_itself"),
    *("disk_fill_mapped", "disk_fill_unseen", "memory_bomb_in_files", "memory_bomb_shared_out"),
    *("switch_links", "absurd_names"),
)
# With these an odd number, so that each meets both graders in turn.
MODULES = ("endless_text", "pipe_of_brackets", "pipe_of_newlines", "sleeper")  # as calc.py
SERVERS: set[int] = set()


@dataclass(frozen=True)
class Ended:
    """One graded run."""

    kind: str
    is_right: bool
    seconds: float


def submissions() -> dict[str, str]:
    """Return calc.py by kind: a repair, the bug, and every bomb, set off when it is called."""
    found = {"gold": FIXED, "noop": FIXED.replace("sum(values)", "sum(values) + 1")}
    facts = {"folder": "/", "memory": MEMORY_BYTES["pytest"], "groups": probe().require().groups}
    for attack in attacks("sandbox"):
        if name_of(attack) in BOMBS:
            call = f"def total(values):\n    attack({facts})\n    return 0\n"
            first = "def first(values):\n    return total(values)\n"
            found[name_of(attack)] = f"{PRELUDE}{attack.SOURCE}\n{call}\n{first}"
    found |= {name_of(each): each.SOURCE for each in attacks("graders") if name_of(each) in MODULES}
    missing = {*BOMBS, *MODULES} - found.keys()
    assert not missing, missing
    return found


def kind_of(number: int) -> str:
    """Return what the run of this number submits."""
    if number % BOMB_EVERY == 0:
        return (BOMBS + MODULES)[number // BOMB_EVERY % len(BOMBS + MODULES)]
    return ("gold", "noop")[number // 2 % 2]


def held(grader_pid: int) -> dict[str, int]:
    """Return what this process and those below it hold: counts, and memory in MiB."""
    below = descendants(grader_pid)
    folders = [Path(f"/proc/{pid}") for pid in (grader_pid, *below)]
    pages = [int((folder / "statm").read_text().split()[1]) for folder in folders]
    memory = [count * os.sysconf("SC_PAGE_SIZE") // 2**20 for count in pages]
    fds = [len(list((folder / "fd").iterdir())) for folder in folders]
    mounts = [(folder / "mountinfo").read_text().count("\n") for folder in folders]
    groups = [
        path
        for base in cgroups.find_bases()
        for pid in SERVERS.union(below)
        for path in base.glob(f"tightrope-{pid}-*")
    ]
    return {
        "RSS of the trusted side, MiB": memory[0],
        "RSS of its servers, MiB": sum(memory[1:]),
        "descriptors": sum(fds),
        "mounts": sum(mounts),
        "processes": len(below),
        "control groups": len(groups),
        "temporary files": len(list(Path(tempfile.gettempdir()).rglob("*"))),
    }


def play(grader: RoutingGrader, number: int, texts: dict[str, str]) -> Ended:
    """Grade one submission."""
    kind, grader_kind = kind_of(number), ("io", "pytest")[(number + number // BOMB_EVERY) % 2]
    task = TASKS[grader_kind]
    began = time.monotonic()
    outcome = grader.grade(task.hidden, {**task.workspace, "calc.py": texts[kind]})
    right = outcome.unscorable is None and is_solved(outcome) == (kind == "gold")
    return Ended(f"{kind}, {grader_kind}", right, time.monotonic() - began)


TASKS = {
    kind: type(task)(
        task.public, task.hidden.model_copy(update={"limit_s": LIMIT_S}), task.workspace, task.tests
    )
    for kind, task in {"io": make_io_task(), "pytest": make_pytest_task(SUITES["plain"])}.items()
}


def main(argv: list[str]) -> int:
    """Run all and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/endurance.md"))
    parser.add_argument("--runs", type=int, default=10_000)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="endurance-") as tempfile.tempdir:
        text, failed = endure(given.runs)
    print(text)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, "utf-8")
    return int(failed)


def endure(num_runs: int) -> tuple[str, bool]:
    """Grade so many submissions; returns the page and whether anything is wrong."""
    texts, ended, counts = submissions(), list[Ended](), dict[str, dict[str, int]]()
    with (
        make_grader(store_of(*TASKS.values())) as grader,
        ThreadPoolExecutor(WORKERS) as pool,
        Progress("endurance", total=num_runs, unit="runs") as progress,
    ):
        for number in range(0, 2 * len(BOMBS + MODULES) * BOMB_EVERY, BOMB_EVERY // 2):
            play(grader, number, texts)  # both servers are up, every bomb has gone off
        SERVERS.update(descendants(os.getpid()))
        settles(lambda: len(descendants(os.getpid())) <= len(SERVERS))
        counts["before"] = held(os.getpid())
        for done in range(CHUNK, num_runs + 1, CHUNK):
            numbers = range(done - CHUNK, done)
            ended += pool.map(lambda number: play(grader, number, texts), numbers)
            progress.advance(CHUNK)
            if done == num_runs // 10:
                counts["after a tenth"] = held(os.getpid())
        settles(lambda: len(descendants(os.getpid())) <= counts["before"]["processes"])
        counts["after"] = held(os.getpid())
    settles(lambda: not descendants(os.getpid()))
    counts["closed"] = held(os.getpid())
    return report(ended, counts, num_runs)


def report(
    ended: list[Ended], counts: dict[str, dict[str, int]], num_runs: int
) -> tuple[str, bool]:
    """Return the page and whether anything is wrong."""
    wrong = [each for each in ended if not each.is_right]
    late = [each for each in ended if each.seconds > LIMIT_S + LATE_S]
    before, after = counts["before"], counts["after"]
    grown = [name for name in before if after[name] > before[name] * (1.1 if "RSS" in name else 1)]
    lines = [
        f"# {num_runs:,} graded runs",
        "",
        f"`python benchmarks/endurance.py --runs {num_runs}`; {WORKERS} workers, limit "
        f"{LIMIT_S:.0f} s; Python {platform.python_version()}, Linux {platform.release()}; sandbox "
        f"level {probe().level}. Wrong: {len(wrong)}. Later than {LIMIT_S + LATE_S:.0f} s: "
        f"{len(late)}. Grown: {', '.join(grown) or 'nothing'} (RSS may by a tenth).",
        "",
        f"| held | {' | '.join(counts)} |",
        "|---" * (len(counts) + 1) + "|",
        *(f"| {name} | {' | '.join(str(c[name]) for c in counts.values())} |" for name in before),
        "",
        "| submitted, grader | runs | wrong | median s | slowest s |",
        "|---|---|---|---|---|",
    ]
    for kind, number in sorted(Counter(each.kind for each in ended).items()):
        times = [each.seconds for each in ended if each.kind == kind]
        bad = sum(each.kind == kind for each in wrong)
        lines.append(f"| {kind} | {number} | {bad} | {median(times):.2f} | {max(times):.2f} |")
    return "\n".join(lines) + "\n", bool(wrong or late or grown)


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
