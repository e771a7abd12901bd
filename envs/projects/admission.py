"""What any project must pass before bugs are planted in it: its layout, its suite, its reach.

For projects of PyPI (`envs/projects/add_project.py`) and for a user's own
(`envs/projects/local_folder.py`). The suite runs once to see whether it works at all, five times to
see which tests pass in every run, and once traced, to see in which files bugs would be noticed.

Tests: tests/envs/projects/test_add_project.py.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from envs.errors import UserError
from envs.grading.test_suite import SuiteRun, run_suite
from envs.mutation.operators import list_mutations
from envs.projects.baseline import (
    ABSENT,
    SUITE_LIMIT_S,
    TRACED_LIMIT_S,
    find_reason,
    name_some,
    run_five_times,
)
from envs.projects.layout import Layout, find_layout
from envs.projects.lock_file import Project, select_tree
from envs.projects.repair_task import LIMIT_S, MAX_SUITE_CPU_S
from envs.projects.source_files import MAX_TREE_BYTES
from envs.sandbox.child_coverage import LINES_PER_FILE, read_trace
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter, find_interpreter
from envs.tasks.store import Files

MIN_TESTS = 20  # that pass; fewer cannot tell bugs apart
MAX_RED_SHARE = 0.1  # of a suite that may be excluded for failing here
MIN_REACHED_SITES = 5  # bugs that a test would execute, below which a file is left alone
_NUM_EXPLAINED = 100  # failing tests that are run again for a readable reason


def admit(
    entry: Project,
    members: Mapping[str, bytes],
    *,
    exclude: Collection[str],
    exclude_red: bool,
    cache_dir: Path,
) -> tuple[Project, Files]:
    """Return the entry completed by what was found out about its suite, and its tree.

    Args:
        entry: What is known: names, licence, runtime.
        members: All files of the project, by path.
        exclude: Test files (left out of the tree), classes, functions or ids that do not count.
        exclude_red: Nor do those that fail in every run, if they are few.
        cache_dir: Where extra wheels are installed.

    Raises:
        UserError: The project gives no tasks, for the reason given.
        InfrastructureError: The sandbox failed.
    """
    name, layout = entry.name, find_layout(members)
    interpreter = find_interpreter(entry.runtime, cache_dir=cache_dir)
    _refuse_by_layout(name, layout)
    _refuse_readable(name, layout, interpreter)
    left_out = {path: "excluded by hand" for path in exclude if path in layout.tests}
    entry = entry.model_copy(update={"roots": layout.roots, "excluded_tests": left_out})
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        entry, files, first = _run_first(entry, layout, members, server)
        excluded = _exclude(name, first, exclude, exclude_red=exclude_red)
        runs = run_five_times(files, excluded=excluded.keys(), interpreter=interpreter)
        stable = runs.stable_tests
        if runs.red:
            raise _refuse_red(name, runs.red, num_tests=len(runs.red) + len(stable))
        _refuse_slow(name, runs.cpu_s, ending=runs.ending, last="", wall_s=runs.wall_s)
        if len(stable) < MIN_TESTS:
            reason = f"{len(stable)} tests pass, fewer than {MIN_TESTS}"
            raise refuse(name, reason, remedy="a project needs more tests to tell bugs apart")
        mutated = _find_reached(files, server, stable_tests=stable, paths=layout.sources)
    if not mutated:
        reason = "its tests execute no function worth changing"
        raise refuse(name, reason, remedy="test functions of the project's own files")
    flaky = {
        test: f"flaky: {find_reason(text)}"
        for test, text in runs.flaky.items()
        if text != ABSENT  # its name will be another one next time
    }
    found = {
        "excluded_tests": entry.excluded_tests | excluded | flaky,
        "mutated": mutated,
        "num_tests": len(stable),
        "suite_s": round(runs.cpu_s, 2),
    }
    return entry.model_copy(update=found), files


def refuse(name: str, reason: str, *, remedy: str) -> UserError:
    """Return the error that says why a project gives no tasks."""
    return UserError(f"{name} gives no tasks: {reason}", remedy=remedy)


def _refuse_by_layout(name: str, layout: Layout) -> None:
    """Refuse a project that cannot give tasks, by what its files are."""
    if layout.compiled:
        reason = f"not pure Python: {layout.compiled[0]}"
        raise refuse(name, reason, remedy="only pure Python can be run from a tree")
    if not layout.tests:
        remedy = (
            "tests are looked for in test_*.py, *_test.py and tests.py below a package or tests/"
        )
        raise refuse(name, "no tests", remedy=remedy)
    if not layout.sources:
        remedy = "packages and modules are looked for at the top and in src"
        raise refuse(name, "no Python package", remedy=remedy)


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
            raise refuse(
                name,
                f"submitted code could read a copy of {module} (in {where})",
                remedy="install the project with `pip install -e`, or remove it there",
            )


def _run_first(
    entry: Project, layout: Layout, members: Mapping[str, bytes], server: ForkServer
) -> tuple[Project, Files, SuiteRun]:
    """Run the suite, with the data files if it needs them; what failed is explained.

    Raises:
        UserError: It is too large, too slow, or hangs.
    """
    files = _read_tree(entry, members)
    run = run_suite(server, files, ids=None, limit_s=SUITE_LIMIT_S)
    if layout.data and (run.failed or not run.passed):
        with_data = entry.model_copy(update={"data": layout.data})
        more = _read_tree(with_data, members)
        again = run_suite(server, more, ids=None, limit_s=SUITE_LIMIT_S)
        if len(again.passed) > len(run.passed):
            entry, files, run = with_data, more, again
    _refuse_slow(entry.name, run.cpu_s, ending=run.ending, last=run.last_started)
    few = [test for test in sorted(run.failed) if test != "conftest.py"][:_NUM_EXPLAINED]
    said = run_suite(server, files, ids=few, limit_s=SUITE_LIMIT_S, explain=True)
    explained = {test: said.messages[test] for test in few if test in said.messages}
    return entry, files, replace(run, messages={**run.messages, **explained})


def _read_tree(entry: Project, members: Mapping[str, bytes]) -> Files:
    files = select_tree(entry, members)
    size = sum(map(len, files.values()))
    if entry.source == "path" and size > MAX_TREE_BYTES:
        raise UserError(
            "the project is too large to copy for every run",
            got=f"{size / 2**20:.0f} MiB",
            remedy=f"name a part of it below {MAX_TREE_BYTES // 2**20} MiB in --path",
        )
    return files


def _exclude(
    name: str, run: SuiteRun, exclude: Collection[str], *, exclude_red: bool
) -> dict[str, str]:
    """Return the ids that do not count, each with the reason.

    Raises:
        UserError: Others fail.
    """
    failures = {test: run.messages[test] for test in sorted(run.failed)}
    heads = tuple(f"{each}{mark}" for each in exclude for mark in ("::", "["))
    tests = sorted({*failures, *run.passed})
    chosen = {test for test in tests if test in exclude or test.startswith(heads)}
    red = {test: text for test, text in failures.items() if test not in chosen}
    if red and not (exclude_red and len(red) <= MAX_RED_SHARE * len(tests)):
        raise _refuse_red(name, red, num_tests=len(tests))
    reasons = dict.fromkeys(chosen, "excluded by hand")
    return reasons | {test: f"fails here: {find_reason(text)}" for test, text in failures.items()}


def _refuse_red(name: str, red: Mapping[str, str], *, num_tests: int) -> UserError:
    return UserError(
        f"the suite of {name} is red: {len(red)} of {num_tests} tests fail",
        got=name_some(red),
        remedy="install what it lacks (of PyPI: --requires), or leave tests out with --exclude",
    )


def _refuse_slow(name: str, cpu_s: float, *, ending: str, last: str, wall_s: float = 0.0) -> None:
    if ending == "timeout":
        where = f" in {last}" if last else ""
        reason = f"its suite is too slow: stopped after {SUITE_LIMIT_S:.0f} s{where}"
    elif ending == "overflow":
        reason = "its suite reports more than the sandbox takes"
    elif ending == "crashed":
        reason = "its suite ends before the end"
    elif cpu_s > MAX_SUITE_CPU_S:
        reason = f"its suite is too slow: {cpu_s:.1f} CPU seconds, at most {MAX_SUITE_CPU_S:.0f}"
    elif wall_s > LIMIT_S:  # which CPU seconds do not show
        reason = (
            f"its suite is too slow: it waits for most of {wall_s:.0f} s, and a grading takes "
            f"{LIMIT_S:.0f} s at most"
        )
    else:
        return
    raise refuse(name, reason, remedy="leave slow test files out with --exclude")


def _find_reached(
    files: Files, server: ForkServer, *, stable_tests: Sequence[str], paths: Collection[str]
) -> tuple[str, ...]:
    """Return the files in which tests execute enough code that could be changed.

    Code that runs at import only does not count: what breaks there breaks every test.
    """
    lines = {path: _site_lines(files[path]) for path in sorted(paths) if path in files}
    traced = [path for path, found in lines.items() if len(found) >= MIN_REACHED_SITES]
    run = run_suite(server, files, ids=stable_tests, limit_s=TRACED_LIMIT_S, trace=traced)
    traces = [read_trace(written)[0] for test, written in run.lines.items() if test]
    reached = frozenset[int]().union(*(known for known in traces if known is not None))
    return tuple(
        path
        for number, path in enumerate(traced)
        if sum(number * LINES_PER_FILE + line in reached for line in lines[path])
        >= MIN_REACHED_SITES
    )


def _site_lines(text: str) -> list[int]:
    """Return the line of each bug that can be planted in a file."""
    try:
        return [site.line for site in list_mutations(text)]
    except (SyntaxError, ValueError, RecursionError):  # another Python's, or data as source
        return []
