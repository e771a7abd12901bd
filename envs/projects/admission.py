"""What any project must pass before bugs are planted in it: its layout, its suite, its reach.

For projects of PyPI (`envs/projects/add_project.py`) and for a user's own
(`envs/projects/local_folder.py`). The suite runs once to see whether it works at all, five times to
see which tests pass in every run, and once traced, to see in which files bugs would be noticed.
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envs.errors import UserError
from envs.grading.test_suite import SuiteRun, run_suite
from envs.mutation.operators import sites
from envs.projects.baseline import TRACED_LIMIT_S
from envs.projects.layout import Layout, worth_mutating
from envs.projects.lock_file import Project
from envs.projects.repair_task import LIMIT_S, MAX_SUITE_CPU_S
from envs.projects.stable_tests import ABSENT, SUITE_LIMIT_S, five_runs, last_words, named
from envs.sandbox.child_coverage import LINES_PER_FILE, read_trace
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter, find_interpreter
from envs.tasks.store import Files

MIN_TESTS = 20  # that pass; fewer cannot tell bugs apart
MAX_RED_SHARE = 0.1  # of a suite that may be excluded for failing here
MIN_REACHED_SITES = 5  # bugs that a test would execute, below which a file is left alone
_NUM_EXPLAINED = 100  # failing tests that are run again for a readable reason
ReadTree = Callable[[Project], Files]


@dataclass(frozen=True)
class Exclusions:
    """Tests that shall not count.

    Attributes:
        names: Test files (left out of the tree), classes, functions or ids.
        red: Also those that fail in every run, if they are few.
    """

    names: tuple[str, ...] = ()
    red: bool = False


def admit(
    entry: Project,
    *,
    layout: Layout,
    read_tree: ReadTree,
    exclusions: Exclusions,
    cache_dir: Path,
) -> tuple[Project, Files]:
    """Return the entry completed by what was found out about its suite, and its tree.

    Args:
        entry: What is known: names, licence, roots, runtime.
        layout: Where its files are.
        read_tree: Reads the files that an entry names.
        exclusions: Tests that shall not count.
        cache_dir: Where extra wheels are installed.

    Raises:
        UserError: The project is of no use, for the reason given.
        InfrastructureError: The sandbox failed.
    """
    interpreter = find_interpreter(entry.runtime, cache_dir=cache_dir)
    _refuse_by_layout(entry.name, layout)
    _refuse_readable(entry.name, layout, interpreter)
    left_out = {path: "excluded by hand" for path in exclusions.names if path in layout.tests}
    entry = entry.model_copy(update={"roots": layout.roots, "excluded_tests": left_out})
    entry, files, first = _first_run(entry, layout, read_tree, interpreter)
    told = {test: first.messages[test] for test in sorted(first.failed)}
    excluded = _excluded(entry.name, told, first.passed, exclusions)
    runs = five_runs(files, excluded=excluded.keys(), interpreter=interpreter)
    if runs.red:
        raise _red(entry.name, runs.red, num_tests=len(runs.red) + len(runs.green))
    _refuse_slow(entry.name, runs.cpu_s, ending=runs.ending, last="")
    if runs.wall_s > LIMIT_S:  # which CPU seconds do not show
        reason = f"its suite is too slow: it waits for most of {runs.wall_s:.0f} s"
        raise refusal(
            entry.name,
            f"{reason}, and a grading takes {LIMIT_S:.0f} s at most",
            remedy="leave slow test files out with --exclude",
        )
    if len(runs.green) < MIN_TESTS:
        reason = f"{len(runs.green)} tests pass, fewer than {MIN_TESTS}"
        raise refusal(entry.name, reason, remedy="a project needs more tests to tell bugs apart")
    mutated = _noticed(files, green=runs.green, paths=layout.sources, interpreter=interpreter)
    if not mutated:
        reason = "its tests execute no function worth changing"
        raise refusal(entry.name, reason, remedy="test functions of the project's own files")
    flaky = {
        test: f"flaky: {last_words(text)}"
        for test, text in runs.flaky.items()
        if text != ABSENT  # its name will be another one next time
    }
    found = {
        "excluded_tests": entry.excluded_tests | excluded | flaky,
        "mutated": mutated,
        "num_tests": len(runs.green),
        "suite_s": round(runs.cpu_s, 2),
    }
    return entry.model_copy(update=found), files


def refusal(name: str, reason: str, *, remedy: str) -> UserError:
    """Return the error that says why a project is of no use."""
    return UserError(f"{name} gives no tasks: {reason}", remedy=remedy)


def _refuse_by_layout(name: str, layout: Layout) -> None:
    """Refuse a project that cannot give tasks, by what its files are."""
    if layout.compiled:
        reason = f"not pure Python: {layout.compiled[0]}"
        raise refusal(name, reason, remedy="only pure Python can be run from a tree")
    if not layout.tests:
        remedy = (
            "tests are looked for in test_*.py, *_test.py and tests.py below a package or tests/"
        )
        raise refusal(name, "no tests", remedy=remedy)
    if not layout.sources:
        remedy = "packages and modules are looked for at the top and in src"
        raise refusal(name, "no Python package", remedy=remedy)


def _refuse_readable(name: str, layout: Layout, interpreter: Interpreter) -> None:
    """Refuse a project of which the sandbox holds a copy, with the answer in it."""
    beside = {Path(package).name.removesuffix(".py") for package in interpreter.packages}
    for module in layout.modules:
        parts = (module, f"{module}.py")
        copies = [
            path
            for folder in interpreter.site
            for part in parts
            if (path := Path(folder, part)).exists()
        ]
        if module in sys.stdlib_module_names | beside or copies:
            where = copies[0] if copies else "pytest or the standard library"
            raise refusal(
                name,
                f"submitted code could read a copy of {module} (in {where})",
                remedy="install the project with `pip install -e`, or remove it there",
            )


def _first_run(
    entry: Project, layout: Layout, read_tree: ReadTree, interpreter: Interpreter
) -> tuple[Project, Files, SuiteRun]:
    """Run the suite, with the data files if it needs them; what failed is explained.

    Raises:
        UserError: It is too slow, or hangs.
    """
    files = read_tree(entry)
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        run = run_suite(server, files, ids=None, limit_s=SUITE_LIMIT_S)
        if layout.data and (run.failed or not run.passed):
            with_data = entry.model_copy(update={"data": layout.data})
            more = read_tree(with_data)
            again = run_suite(server, more, ids=None, limit_s=SUITE_LIMIT_S)
            if len(again.passed) > len(run.passed):
                entry, files, run = with_data, more, again
        _refuse_slow(entry.name, run.cpu_s, ending=run.ending, last=run.last_started)
        few = [test for test in sorted(run.failed) if test != "conftest.py"][:_NUM_EXPLAINED]
        said = run_suite(server, files, ids=few, limit_s=SUITE_LIMIT_S, explain=True)
    explained = {test: said.messages[test] for test in few if test in said.messages}
    return entry, files, replace(run, messages={**run.messages, **explained})


def _excluded(
    name: str, told: Mapping[str, str], passed: Collection[str], exclusions: Exclusions
) -> dict[str, str]:
    """Return the ids that do not count, each with the reason.

    Raises:
        UserError: Others fail.
    """
    heads = tuple(f"{each}{mark}" for each in exclusions.names for mark in ("::", "["))
    tests = sorted({*told, *passed})
    chosen = {test for test in tests if test in exclusions.names or test.startswith(heads)}
    red = {test: text for test, text in told.items() if test not in chosen}
    if red and not (exclusions.red and len(red) <= MAX_RED_SHARE * len(tests)):
        raise _red(name, red, num_tests=len(tests))
    reasons = dict.fromkeys(chosen, "excluded by hand")
    return reasons | {test: f"fails here: {last_words(text)}" for test, text in told.items()}


def _red(name: str, red: Mapping[str, str], *, num_tests: int) -> UserError:
    return UserError(
        f"the suite of {name} is red: {len(red)} of {num_tests} tests fail",
        got=named(dict(red)),
        remedy="install what it lacks (of PyPI: --requires), or leave tests out with --exclude",
    )


def _refuse_slow(name: str, cpu_s: float, *, ending: str, last: str) -> None:
    remedy = "leave slow test files out with --exclude"
    if ending == "timeout":
        where = f" in {last}" if last else ""
        reason = f"its suite is too slow: stopped after {SUITE_LIMIT_S:.0f} s{where}"
        raise refusal(name, reason, remedy=remedy)
    if ending == "overflow":
        raise refusal(name, "its suite reports more than the sandbox takes", remedy=remedy)
    if ending == "crashed":
        raise refusal(name, "its suite ends before the end", remedy=remedy)
    if cpu_s > MAX_SUITE_CPU_S:
        reason = f"its suite is too slow: {cpu_s:.1f} CPU seconds, at most {MAX_SUITE_CPU_S:.0f}"
        raise refusal(name, reason, remedy=remedy)


def _noticed(
    files: Files, *, green: Sequence[str], paths: Collection[str], interpreter: Interpreter
) -> tuple[str, ...]:
    """Return the files in which tests execute enough code that could be changed.

    Code that runs at import only does not count: what breaks there breaks every test.
    """
    worth = worth_mutating(files, paths=[path for path in paths if path in files])
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        run = run_suite(server, files, ids=green, limit_s=TRACED_LIMIT_S, trace=worth)
    told = [read_trace(written)[0] for test, written in run.lines.items() if test]
    reached = frozenset[int]().union(*(lines for lines in told if lines is not None))
    return tuple(
        path
        for number, path in enumerate(worth)
        if sum(number * LINES_PER_FILE + site.line in reached for site in sites(files[path]))
        >= MIN_REACHED_SITES
    )
