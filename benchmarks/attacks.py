"""Tries every known attack on three graders and on the sandbox, and prints who was fooled.

    python benchmarks/attacks.py --out benchmarks/results/attacks.md

About a minute on 2 CPU cores; needs bubblewrap, under which the exit-code grader (a stand-in for a
usual one: pytest's exit code counts and nothing else) and the second runner run. The attacks are
the files of tests/attacks/, which mend no bug. The exit code is 1 if the io grader is fooled, or
the pytest grader by an attack that is not adaptive, or if the sandbox does not hold.
"""

import argparse
import contextlib
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from envs.grading.bwrap_runner import bubblewrap
from envs.grading.graders import make_grader
from envs.sandbox.levels import Layers, ServerProcess, probe
from tests.attacks.attempts import (
    attacks,
    fools_exit_code,
    name_of,
    small_tasks,
    submitted,
    try_sandbox,
    what_stops,
)
from tests.attacks.world import open_world
from tests.envs.small_tasks import is_solved, store_of

# Where nothing stops it. An adaptive attack is made against the defences it names.
FOOLED = {True: "fooled", False: "no"}


def main() -> int:
    """Print the tables; returns 1 if a promise of the README is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="file for the tables, as Markdown")
    out = parser.parse_args().out
    graders, broken = grader_rows()
    sandbox, harmed = sandbox_rows()
    text = "\n".join([*header(), *graders, "", *sandbox, ""])
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    wrong = [*broken, *harmed]
    print(f"broken promises: {', '.join(wrong)}" if wrong else "every promise is kept")
    return 1 if wrong else 0


def header() -> list[str]:
    """Return the title with versions and the sandbox level."""
    asked = [bubblewrap().program, "--version"]
    program = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    used = ", ".join(name for name, present in probe().layers.items() if present)
    return [
        "# Attacks on graders and sandbox",
        "",
        f"`python benchmarks/attacks.py`; Python {platform.python_version()}, pytest "
        f"{version('pytest')}, {program}, Linux {platform.release()}.",
        f"Sandbox level {probe().level}; layers {used}.",
        "",
    ]


def grader_rows() -> tuple[list[str], list[str]]:
    """Return the table of attacks on graders, and what should not have been."""
    tasks = small_tasks()
    rows = ["| attack | goes for | exit code | pytest grader | io grader | stopped by |"]
    rows += ["|---|---|---|---|---|---|"]
    plain: list[tuple[bool, bool, bool]] = []
    adaptive: dict[str, list[str]] = {}
    broken = []
    store = store_of(*tasks.values())
    with make_grader(store) as first, make_grader(store, second_runner_share=1.0) as second:
        for attack in attacks("graders"):
            name = name_of(attack)
            stop = what_stops(attack, tasks["pytest"], {"first": first, "second": second})
            by_code = fools_exit_code(attack, tasks["pytest"])
            by_pytest = stop in ("second runner", "nothing")
            outcome = first.grade(tasks["io"].hidden, submitted(attack, tasks["io"]))
            fooled = (by_code, by_pytest, is_solved(outcome))
            cells = " | ".join(FOOLED[each] for each in fooled)
            rows.append(f"| {name} | {attack.GOES_FOR} | {cells} | {stop} |")
            if hasattr(attack, "STOPPED_BY"):
                adaptive.setdefault(stop, []).append(name)
            else:
                plain.append(fooled)
            broken += [f"{name} (io)"] if fooled[2] else []
            broken += [name] if by_pytest and not hasattr(attack, "STOPPED_BY") else []
    counts = [sum(each[column] for each in plain) for column in range(3)]
    stops = "; ".join(f"{stop}: {', '.join(names)}" for stop, names in sorted(adaptive.items()))
    summary = [
        f"Of {len(plain)} attacks that are not adaptive, the exit code is fooled by {counts[0]}, "
        f"the pytest grader by {counts[1]}, the io grader by {counts[2]}. "
        f"{sum(map(len, adaptive.values()))} are made against the pytest grader's own defences; "
        f"what stops each of them: {stops}. The second runner is asked about every pass here; in "
        "training it is off until `reward.second_runner_share` says otherwise.",
        "",
    ]
    return summary + rows, broken


def sandbox_rows() -> tuple[list[str], list[str]]:
    """Return the table of attacks on the sandbox, and those that it did not hold."""
    best = probe().require()
    levels = dict.fromkeys([best, Layers(namespaces=False, landlock=True, drop_uid=False)])
    told: dict[str, list[str]] = {name_of(attack): [] for attack in attacks("sandbox")}
    harmed = []
    for layers in levels:
        process = ServerProcess(layers, preload="pytest")
        with contextlib.closing(process) as server, open_world() as world:
            for attack in attacks("sandbox"):
                verdict = try_sandbox(attack, server, world)
                told[name_of(attack)].append("held" if verdict.held else f"NOT: {verdict.told}")
                if not verdict.held:
                    harmed.append(f"{name_of(attack)} at {layers.level}")
    names = " | ".join(layers.level for layers in levels)
    rows = [f"{len(told)} attacks on the sandbox; {len(harmed)} not held.", ""]
    rows += [f"| attack | goes for | {names} |", "|---|---|" + "---|" * len(levels)]
    for attack in attacks("sandbox"):
        cells = " | ".join(told[name_of(attack)])
        rows.append(f"| {name_of(attack)} | {attack.GOES_FOR} | {cells} |")
    return rows, harmed


if __name__ == "__main__":
    sys.exit(main())
