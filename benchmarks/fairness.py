"""Draws tasks of a set to be read by hand, as the agent sees them, and prints their answers apart.

    python benchmarks/fairness.py build --out /tmp/fair
    python benchmarks/fairness.py read /tmp/fair --seed 1 > tasks.txt
    python benchmarks/fairness.py answers /tmp/fair --seed 1 > answers.txt

`build` makes tasks of twelve projects of the lock file. `read` draws 50 of them by seed, 12 with
combined bugs among them, projects taking turns. It prints statement and visible tests, and of the
files that may be edited some definitions in the order of their lines: those that hold a frame of
the traceback, that the tests name, that these name in turn, up to a length, and unmarked among them
those with the bugs. All else lies in FOLDER/workspaces of `--write FOLDER`. `answers` prints the
repairs and hidden tests of the same tasks. The rule to judge by, and what was found, is in
`benchmarks/results/fairness.md`.
"""

import argparse
import ast
import itertools
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from envs.records import RepairTask, Span, Split
from envs.source_text import source_lines
from envs.sources.build import build
from envs.syntax import (
    DEFINITIONS,
    Definition,
    find_innermost,
    first_line,
    last_line,
    parse_python,
)
from envs.tasks.store import TaskStore
from envs.tasks.visible_tests import parse_test_id

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = """parse munch hyperlink schema toolz anytree isodate boltons simpleeval funcy
    voluptuous tinydb"""
COUNTS: dict[Split, int] = {"train": 90, "dev": 36, "test": 24}
NUM_TASKS, NUM_COMBINED = 50, 12
MAX_HOPS = 2  # from the visible tests to the definitions that are printed
MAX_LINES = 110  # of one file, about


def main(argv: Sequence[str]) -> int:
    """Do what is asked; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build")
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--cache", type=Path, default=Path(".cache/tightrope"))
    for name in ("read", "answers"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        command.add_argument("--seed", type=int, required=True)
        command.add_argument("--write", type=Path, help="where the workspaces are written to")
    asked = parser.parse_args(argv)
    if asked.command == "build":
        _build(asked.out, seed=asked.seed, cache_dir=asked.cache)
        return 0
    store = TaskStore.open(asked.folder)
    for number, task in enumerate(draw_tasks(store, seed=asked.seed), start=1):
        print(f"\n######## {number}. {task.id} {task.project}, {name_kind(task)}")
        print("\n".join(_answer(store, task) if asked.command == "answers" else _read(store, task)))
        if asked.write:
            for path, text in store.workspace(task).items():
                where = asked.write / "workspaces" / task.id / path
                where.parent.mkdir(parents=True, exist_ok=True)
                where.write_text(text, "utf-8", errors="surrogateescape")
    return 0


def draw_tasks(store: TaskStore, *, seed: int) -> list[RepairTask]:
    """Return tasks in a random order in which projects take turns, combined ones first."""
    draw = random.Random(f"fairness:{seed}")
    combined = [task for task in store.public.values() if task.difficulty.sites > 1]
    drawn = _take_turns(combined, draw)[:NUM_COMBINED]
    rest = [task for task in store.public.values() if task not in drawn]
    drawn += _take_turns(rest, draw)[: NUM_TASKS - len(drawn)]
    draw.shuffle(drawn)
    return drawn


def name_kind(task: RepairTask) -> str:
    """Return how many bugs a task has, in words."""
    found = task.difficulty
    return f"{found.sites} bugs in {found.files} files" if found.sites > 1 else "1 bug"


def _build(out: Path, *, seed: int, cache_dir: Path) -> None:
    entries = json.loads((ROOT / "configs/projects.lock.json").read_text("utf-8"))
    lock = out.with_suffix(".lock.json")
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps({name: entries[name] for name in PROJECTS.split()}), "utf-8")
    manifest = build(
        "projects", out_dir=out, counts=COUNTS, seed=seed, lock=lock, cache_dir=cache_dir
    )
    print(json.dumps({"counts": manifest.counts, "rejects": manifest.rejects}, indent=1))


def _take_turns(tasks: Sequence[RepairTask], draw: random.Random) -> list[RepairTask]:
    queues: dict[str, list[RepairTask]] = {}
    for task in sorted(tasks, key=lambda each: each.id):
        queues.setdefault(task.project, []).append(task)
    projects = sorted(queues)
    draw.shuffle(projects)
    for name in projects:
        draw.shuffle(queues[name])
    rounds = itertools.zip_longest(*(queues[name] for name in projects))
    return [task for each in rounds for task in each if task is not None]


def _read(store: TaskStore, task: RepairTask) -> Iterator[str]:
    """Yield what the agent sees first, and what a reader would look at next."""
    workspace, said = store.workspace(task), ""
    yield task.statement
    names = {name for _, name in map(parse_test_id, task.visible_tests)}
    for path in sorted({parse_test_id(test)[0] for test in task.visible_tests}):
        tests = [node for node in _list_definitions(workspace[path]) if node.name in names]
        said += "\n".join(map(ast.unparse, tests))
        yield f"\n---- {path}\n{_drop_blanks(workspace[path])}"
    for path in task.editable:
        frames = [int(line) for line in re.findall(rf"{re.escape(path)}:(\d+):", task.statement)]
        spans = store.hidden[task.id].gold_spans
        held = frames + [line for each in spans if each.path == path for line in _middle(each)]
        yield f"\n---- {path}, {len(source_lines(workspace[path]))} lines, of which"
        yield from _list_named(workspace[path], said, held=held)


def _middle(span: Span) -> Iterator[int]:
    yield (span.start + span.end) // 2


def _list_named(text: str, said: str, *, held: Sequence[int]) -> Iterator[str]:
    """Yield the definitions of a file that hold lines or that a text names, and theirs in turn."""
    tree, nodes = parse_python(text), _list_definitions(text)
    found = (find_innermost(tree, line, line) for line in held)
    named = {node.lineno: node for node in found if node is not None}
    shown = {line: _cut(source_lines(text), node) for line, node in named.items()}
    words = set(re.findall(r"\w+", said)).union(*map(_list_words, named.values()))
    left = MAX_LINES
    for _ in range(MAX_HOPS):
        new = [node for node in nodes if node.name in words and node.lineno not in shown]
        for node in new:
            cut = _cut(source_lines(text), node)
            left -= cut.count("\n")
            shown[node.lineno] = cut if left > 0 else f"      ({node.name}: line {node.lineno})"
        words = set[str]().union(*map(_list_words, new))
    yield from (shown[line] for line in sorted(shown))


def _list_definitions(text: str) -> list[Definition]:
    return [node for node in ast.walk(parse_python(text)) if isinstance(node, DEFINITIONS)]


def _list_words(node: Definition) -> set[str]:
    """Return the names in a function; of a class, those that are to be read of it."""
    if isinstance(node, ast.ClassDef):
        return {"__init__"}
    inner = list(ast.walk(node))
    words = {each.id for each in inner if isinstance(each, ast.Name)}
    return words | {each.attr for each in inner if isinstance(each, ast.Attribute)}


def _cut(lines: Sequence[str], node: Definition) -> str:
    """Return a function with the numbers of its lines; of a class the first few of them."""
    last = first_line(node) + 4 if isinstance(node, ast.ClassDef) else last_line(node)
    return "\n".join(
        f"{at:5} {lines[at - 1]}" for at in range(first_line(node), last + 1) if at <= len(lines)
    )


def _drop_blanks(text: str) -> str:
    return "\n".join(line for line in source_lines(text) if line.strip())


def _answer(store: TaskStore, task: RepairTask) -> Iterator[str]:
    hidden = store.hidden[task.id]
    yield f"trivial: {task.difficulty.trivial}, {', '.join(hidden.operators)}\n{hidden.gold_patch}"
    failing = [test for test in hidden.fail_to_pass if test in hidden.unseen_tests]
    tests = store.tests(hidden)
    for path, name in dict.fromkeys(map(parse_test_id, failing)):
        lines = source_lines(tests[path])
        for node in ast.walk(parse_python(tests[path])):
            if isinstance(node, DEFINITIONS) and node.name == name:
                yield f"---- {path}\n{_cut(lines, node)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
