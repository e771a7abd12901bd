"""Tries every known attack on each defence of the graders and on the sandbox, and prints a table.

    python benchmarks/attacks.py --out benchmarks/results/attacks.md

About four minutes on 2 CPU cores; needs bubblewrap, under which the exit-code grader (a stand-in
for a usual one: pytest's exit code counts and nothing else) and the second runner run. The attacks
are the files of tests/attacks/, which mend no bug; one that is made against a defence of this
project is called adaptive. The exit code is 1 if the io grader is fooled, if the pytest grader with
recorded calls is fooled by an attack that is not adaptive or by more than three, or if the sandbox
does not hold.
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
from envs.sandbox.levels import Layers, ServerProcess, probe
from tests.attacks.attempts import attacks, is_adaptive, name_of, try_sandbox
from tests.attacks.defences import Findings, open_defences
from tests.attacks.world import open_world

MAX_ADAPTIVE = 3  # that fool pytest grader and recorded calls together
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
    heads = "attack|goes for|suite|exit code|tests and canaries|screen|second runner"
    heads += "|recorded calls|io grader|stopped by"
    rows = [f"| {heads.replace('|', ' | ')} |", "|---" * (heads.count("|") + 1) + "|"]
    told: dict[str, Findings] = {}
    with open_defences() as defences:
        for attack in attacks("graders"):
            name = name_of(attack)
            found = told[name] = defences.find(attack)
            passes = [found.exit_code, found.suite, found.second_runner, found.recorded_calls]
            cells = [FOOLED[each] for each in (*passes, found.io)]
            cells.insert(2, "suspect" if found.suspect else "passes")
            first = [name, attack.GOES_FOR, getattr(attack, "SUITE", "plain")]
            rows.append(f"| {' | '.join([*first, *cells, found.stopped_by])} |")
    return [*_summarize(told), "", *rows], _broken(told)


def _summarize(told: dict[str, Findings]) -> list[str]:
    """Return a small table of who was fooled, by kind of attack and defence."""
    kinds = {
        "not adaptive": [found for name, found in told.items() if not is_adaptive(name)],
        "adaptive": [found for name, found in told.items() if is_adaptive(name)],
    }
    rows = [
        "| attacks | number | exit code | tests and canaries | second runner | recorded calls |"
    ]
    rows[0] += " pytest grader, screen, recorded calls | io grader |"
    rows.append("|---" * 8 + "|")
    for kind, found in kinds.items():
        columns = ("exit_code", "suite", "second_runner", "recorded_calls", "together", "io")
        sums = [sum(getattr(each, column) for each in found) for column in columns]
        rows.append(f"| {kind} | {len(found)} | {' | '.join(map(str, sums))} |")
    past = [name for name, found in told.items() if found.together]
    return [*rows, "", f"Fooled with recorded calls: {', '.join(past) or 'none'}."]


def _broken(told: dict[str, Findings]) -> list[str]:
    """Return the attacks that fool a grader which should not be fooled."""
    fooled = [name for name, found in told.items() if found.together and not is_adaptive(name)]
    adaptive = [name for name, found in told.items() if found.together and is_adaptive(name)]
    fooled += adaptive if len(adaptive) > MAX_ADAPTIVE else []
    return fooled + [f"{name} (io)" for name, found in told.items() if found.io]


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
