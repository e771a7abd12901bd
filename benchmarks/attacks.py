"""Tries every known attack on each defence of the graders and on the sandbox, and prints tables.

    python benchmarks/attacks.py --out benchmarks/results/attacks.md

Needs bubblewrap, under which the exit-code grader (a stand-in for a usual one: pytest's exit code
counts and nothing else) and the second runner run. The attacks are the files of tests/attacks/,
which mend no bug; one that is made against a defence of this project is called adaptive. Channels
are ways by which one run could tell another beside it a bit (tests/attacks/channels.py). What each
row says is kept in the cache, by what it follows from: the same command goes on where it ended, and
one that is given --only some names. Two at a time; about 8 minutes of computing in all. The exit
code is 1 if the io grader is fooled, if the pytest grader with recorded calls is fooled by an
attack that is not adaptive or by more than three, or if the sandbox does not hold.
"""

import argparse
import contextlib
import json
import platform
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from envs.files import hash_files
from envs.grading.bwrap_runner import bubblewrap
from envs.sandbox.levels import Layers, ServerProcess, probe
from envs.tasks.code_key import CHILD, code_key
from tests.attacks.attempts import attacks, is_adaptive, name_of, try_sandbox
from tests.attacks.channels import (
    CHANNELS,
    OUT_OF_REACH,
    list_moved,
    list_moved_outside,
    play_in,
    write_program,
)
from tests.attacks.defences import Findings, open_defences
from tests.attacks.world import World, open_world
from train.config.load import default_cache
from train.stages.progress import Progress

MAX_ADAPTIVE = 3  # that fool pytest grader and recorded calls together
WORKERS = 2
FOOLED = {True: "fooled", False: "no"}
COLUMNS = ("exit_code", "suite", "second_runner", "recorded_calls", "together", "io")


def main() -> int:
    """Print the tables; returns 1 if a promise of the README is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="file for the tables, as Markdown")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where rows are kept")
    parser.add_argument("--only", default="", help="names of attacks, separated by commas")
    asked = parser.parse_args()
    kept = Kept(asked.cache / "attacks")
    only = set(filter(None, asked.only.split(",")))
    told = try_graders(chosen("graders", only), kept)
    sandbox, harmed = sandbox_rows(chosen("sandbox", only), kept)
    channels, moved = ([], []) if only else channel_rows(kept)
    text = "\n".join([*header(), *grader_rows(told), "", *sandbox, "", *channels, ""])
    print(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")
    wrong = [*broken(told), *harmed, *moved]
    print(f"broken promises: {', '.join(wrong)}" if wrong else "every promise is kept")
    return 1 if wrong else 0


def chosen(kind: str, only: set[str]) -> list[ModuleType]:
    """Return the attacks of a kind, or those of them that are asked for."""
    return [each for each in attacks(kind) if not only or name_of(each) in only]


class Kept:
    """What was found before, by a name and the state of all that decides it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        own = ROOT / "tests" / "attacks"
        shared = {str(path.relative_to(own)): path for path in sorted(own.glob("*.py"))}
        machine = f"{platform.python_version()}-{platform.release()}-{version('pytest')}"
        read = ("envs.grading.bwrap_child", "envs.grading.asked_otherwise")  # as text
        graders = code_key("envs.grading.graders", *read, CHILD)
        self._code = f"{graders[:12]}-{hash_files(shared)[:12]}-{machine}"

    def find_or(self, name: str, attack: ModuleType | None, find: Callable[[], Any]) -> Any:
        """Return what was kept, or find it and keep it."""
        own = f"-{hash_files({'': Path(str(attack.__file__))})[:12]}" if attack else ""
        path = self._folder / f"{name}{own}-{self._code}.json"
        if not path.is_file():
            found = json.dumps(find())
            path.with_suffix(".new").write_text(found, "utf-8")
            path.with_suffix(".new").rename(path)
        return json.loads(path.read_text("utf-8"))


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


def try_graders(found: Sequence[ModuleType], kept: Kept) -> dict[ModuleType, Findings]:
    """Try attacks on the graders, two at a time."""
    with (
        open_defences() as defences,
        ThreadPoolExecutor(WORKERS) as pool,
        Progress("graders", total=len(found), unit="attacks") as progress,
    ):

        def find(attack: ModuleType) -> Findings:
            name = f"graders-{name_of(attack)}"
            return Findings(**kept.find_or(name, attack, lambda: asdict(defences.find(attack))))

        told = {}
        for attack, findings in zip(found, pool.map(find, found), strict=True):
            told[attack] = findings
            progress.advance(1)
    return told


def grader_rows(told: dict[ModuleType, Findings]) -> list[str]:
    """Return the tables of attacks on graders."""
    heads = "attack|goes for|suite|exit code|pytest grader|screen|second runner"
    heads += "|recorded calls|io grader|stopped by"
    rows = [f"| {heads.replace('|', ' | ')} |", "|---" * (heads.count("|") + 1) + "|"]
    for attack, found in told.items():
        passes = [found.exit_code, found.suite, found.second_runner, found.recorded_calls]
        cells = [FOOLED[each] for each in (*passes, found.io)]
        cells.insert(2, "suspect" if found.suspect else "passes")
        first = [name_of(attack), attack.GOES_FOR, getattr(attack, "SUITE", "plain")]
        rows.append(f"| {' | '.join([*first, *cells, found.stopped_by])} |")
    return [*summarize(told), "", *rows]


def summarize(told: dict[ModuleType, Findings]) -> list[str]:
    """Return a small table of who was fooled, by kind of attack and defence."""
    rows = ["| attacks | number | exit code | pytest grader | second runner | recorded calls |"]
    rows[0] += " pytest grader, screen, recorded calls | io grader |"
    rows.append("|---" * 8 + "|")
    for adaptive, kind in {False: "not adaptive", True: "adaptive"}.items():
        found = [each for attack, each in told.items() if is_adaptive(name_of(attack)) == adaptive]
        sums = [sum(getattr(each, column) for each in found) for column in COLUMNS]
        rows.append(f"| {kind} | {len(found)} | {' | '.join(map(str, sums))} |")
    past = [attack for attack, found in told.items() if found.together]
    why = [f"{name_of(each)} ({getattr(each, 'FOOLS', 'no reason known')})" for each in past]
    return [*rows, "", f"Fooled with recorded calls: {'; '.join(why) or 'none'}."]


def broken(told: dict[ModuleType, Findings]) -> list[str]:
    """Return the attacks that fool a grader which should not be fooled."""
    names = [name_of(attack) for attack, found in told.items() if found.together]
    fooled = [name for name in names if not is_adaptive(name)]
    adaptive = [name for name in names if is_adaptive(name)]
    fooled += adaptive if len(adaptive) > MAX_ADAPTIVE else []
    return fooled + [f"{name_of(attack)} (io)" for attack, found in told.items() if found.io]


def list_levels() -> list[Layers]:
    """Return the best layers of this machine, the same without Landlock, and the lowest."""
    best = probe().require()
    levels = [best, Layers(namespaces=False, landlock=True, drop_uid=False)]
    if best.namespaces:
        levels.insert(1, replace(best, landlock=False))
    return list(dict.fromkeys(levels))


@contextlib.contextmanager
def open_when_asked(layers: Layers) -> Iterator[Callable[[], ServerProcess]]:
    """Yield what starts a server when it is first called."""
    with contextlib.ExitStack() as stack:
        started: list[ServerProcess] = []

        def start() -> ServerProcess:
            if not started:
                process = ServerProcess(layers, preload="pytest")
                started.append(stack.enter_context(contextlib.closing(process)))
            return started[0]

        yield start


def sandbox_rows(found: Sequence[ModuleType], kept: Kept) -> tuple[list[str], list[str]]:
    """Return the table of attacks on the sandbox by level, and those that it did not hold."""
    levels = list_levels()
    told: dict[ModuleType, list[str]] = {attack: [] for attack in found}
    harmed = []
    for layers in levels:
        with (
            open_when_asked(layers) as start,
            open_world() as world,
            Progress(layers.level, total=len(found), unit="attacks") as progress,
        ):
            for attack in found:
                name, find = (
                    f"{layers.level}-{name_of(attack)}",
                    partial(try_one, attack, start, world),
                )
                verdict = kept.find_or(name, attack, find)
                told[attack].append("held" if verdict["held"] else f"NOT: {verdict['told']}")
                if not verdict["held"]:
                    harmed.append(f"{name_of(attack)} at {layers.level}")
                progress.advance(1)
    names = " | ".join(layers.level for layers in levels)
    rows = [f"{len(told)} attacks on the sandbox; {len(harmed)} not held.", ""]
    rows += [f"| attack | goes for | {names} |", "|---|---|" + "---|" * len(levels)]
    rows += [
        f"| {name_of(attack)} | {attack.GOES_FOR} | {' | '.join(cells)} |"
        for attack, cells in told.items()
    ]
    return rows, harmed


def try_one(attack: ModuleType, start: Callable[[], ServerProcess], world: World) -> dict[str, Any]:
    """Try an attack on the sandbox."""
    return asdict(try_sandbox(attack, start(), world))


def move(start: Callable[[], ServerProcess], program: str) -> dict[str, int]:
    """Return what moves bits between two runs of a server."""
    return list_moved(play_in(start(), program))


def channel_rows(kept: Kept) -> tuple[list[str], list[str]]:
    """Return the table of channels by level, and those that moved bits where none should."""
    levels = list_levels()
    program = write_program(secrets.token_hex(4), 20_000 + secrets.randbelow(10_000))
    told = {"no sandbox": kept.find_or("channels", None, lambda: list_moved_outside(program))}
    wrong = []
    for layers in levels:
        with open_when_asked(layers) as start:
            moved = kept.find_or(f"channels-{layers.level}", None, partial(move, start, program))
        told[layers.level] = moved
        known = set() if layers.namespaces else OUT_OF_REACH
        wrong += [f"{name} at {layers.level}" for name in moved if name not in known]
    rows = [
        "Two runs beside each other: bits that the second told right, if the channel works.",
        "",
    ]
    rows += [f"| channel | {' | '.join(told)} |", "|---" * (len(told) + 1) + "|"]
    for name in CHANNELS:
        cells = [str(moved[name]) if name in moved else "none" for moved in told.values()]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows, wrong


if __name__ == "__main__":
    sys.exit(main())
