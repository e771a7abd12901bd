"""What any project must pass before bugs are planted in it: its suite, and what its tests reach.

For projects of PyPI (`envs/projects/add_project.py`) and for a user's own
(`envs/projects/local_folder.py`). The suite runs once as its authors run it, five times to see
which tests pass in every run, and once traced, to see in which files bugs would be noticed. Tests
that fail, differ or are too slow are left out by name, unless they are too many.

Tests: tests/envs/projects/test_add_project.py.
"""

import difflib
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from envs.errors import UserError
from envs.grading.test_suite import SuiteRun, run_suite
from envs.mutation.operators import list_mutations
from envs.projects.baseline import (
    ABSENT,
    MAX_RED_SHARE,
    SUITE_LIMIT_S,
    TRACED_SLOWDOWN,
    FiveRuns,
    find_reason,
    name_some,
    run_five_times,
)
from envs.projects.layout import find_import_path, is_vendored, list_compiled
from envs.projects.lock_file import Project, select_tree
from envs.projects.source_files import MAX_TREE_BYTES
from envs.sandbox.child_coverage import LINES_PER_FILE, read_trace
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter, find_interpreter
from envs.source_text import file_bytes
from envs.tasks.store import Files
from envs.tasks.suite_files import find_suite, is_doctest

SUITE_S = 30.0  # most CPU seconds of a suite, if nothing else is asked for
NUM_RUNS = 8  # of the suite, from the first to the traced one
MIN_TESTS = 20  # that pass; fewer cannot tell bugs apart
MIN_REACHED_SITES = 5  # bugs that a test would execute, below which a file is left alone
FIRST_LIMIT_S = 600.0  # of the run that finds out which tests are slow
_OF_PYTEST = {"_pytest", "iniconfig", "packaging", "pluggy", "py", "pygments", "pytest"}
_NUM_SLOWEST = 5  # that an error names
_DOCTEST = "a doctest: it stands where everybody reads and changes it"


def admit(
    entry: Project,
    members: Mapping[str, bytes],
    *,
    exclude: Collection[str],
    suite_s: float = SUITE_S,
    cache_dir: Path,
    on_run: Callable[[str], None] = lambda _: None,
) -> tuple[Project, Files]:
    """Return the entry completed by what was found out about its suite, and its tree.

    Args:
        entry: What is known: names, licence, runtime.
        members: All files of the project, by path.
        exclude: Test files (left out of the tree), classes, functions or ids that do not count.
        suite_s: CPU seconds that its suite may take; the slowest tests are left out beyond.
        cache_dir: Where extra wheels are installed.
        on_run: Takes what a run of the suite is for, before each of `NUM_RUNS`.

    Raises:
        UserError: The project gives no tasks, for the reason given.
        InfrastructureError: The sandbox failed.
    """
    name = entry.name
    roots = tuple(sorted({path.partition("/")[0] for path in members}))
    excluded = dict.fromkeys(exclude, "excluded by hand")
    of_tree = {"roots": roots, "excluded_tests": excluded, "rewrites_asserts": True}
    entry = entry.model_copy(update=of_tree)
    interpreter = find_interpreter(entry.runtime, cache_dir=cache_dir)
    on_run("as its authors run it")
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        entry, files, first = _run_first(entry, members, server)
    _refuse_unknown(name, exclude, members, first)
    excluded |= {test: _DOCTEST for test in first.passed if is_doctest(test, files)}
    excluded |= _leave_out_red(name, first)
    excluded |= _leave_out_slow(name, first, excluded, suite_s=suite_s)
    left = excluded.keys()  # ids, and functions with all their cases
    kept = sorted(test for test in first.passed if left.isdisjoint((test, test.partition("[")[0])))
    entry, runs = _run_again(entry, files, kept, excluded, cache_dir=cache_dir, on_run=on_run)
    excluded |= _leave_out_flaky(name, runs)
    _refuse_few(name, len(runs.stable_tests))
    suite = find_suite(files, runs.stable_tests)
    interpreter = find_interpreter(entry.runtime, cache_dir=cache_dir)
    on_run("traced, to see what tests execute")
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        sources = [path for path in files if path not in suite and not is_vendored(path)]
        mutated = _find_reached(files, server, stable_tests=runs.stable_tests, paths=sources)
    if not mutated:
        remedy = "test functions of the project's own files"
        raise refuse(name, "its tests execute no function worth changing", remedy=remedy)
    _refuse_compiled(name, members, mutated)
    refuse_readable(name, mutated, entry, files, interpreter)
    found = {
        "excluded_tests": excluded,
        "suite": tuple(sorted(suite)),
        "mutated": mutated,
        "num_tests": len(runs.stable_tests),
        "suite_s": round(runs.cpu_s, 2),
    }
    return entry.model_copy(update=found), files


def refuse(name: str, reason: str, *, remedy: str) -> UserError:
    """Return the error that says why a project gives no tasks."""
    return UserError(f"{name} gives no tasks: {reason}", remedy=remedy)


def _run_first(
    entry: Project, members: Mapping[str, bytes], server: ForkServer
) -> tuple[Project, Files, SuiteRun]:
    """Run the suite as its authors do, with all other files if it needs them.

    Raises:
        UserError: It is too large, hangs, or cannot start.
    """
    files = read_tree(entry, members)
    skip = entry.excluded_tests
    run = run_suite(server, files, ids=None, skip=skip, limit_s=FIRST_LIMIT_S, explain=True)
    if run.failed or not run.passed or not run.complete:
        with_data = entry.model_copy(update={"data": ("",)})
        more = select_tree(with_data, members)
        if more != files and _measure_size(more) <= MAX_TREE_BYTES:
            again = run_suite(
                server, more, ids=None, skip=skip, limit_s=FIRST_LIMIT_S, explain=True
            )
            if len(again.passed) > len(run.passed) or len(again.failed) < len(run.failed):
                entry, files, run = with_data, more, again
    if run.ending == "overflow":
        raise refuse(
            entry.name,
            "its suite reports more than the sandbox takes",
            remedy="leave test files out with --exclude",
        )
    if run.ending == "timeout":
        where = f" in {run.last_started}" if run.last_started else ""
        raise refuse(
            entry.name,
            f"its suite hangs: stopped after {FIRST_LIMIT_S:.0f} s{where}",
            remedy="leave this test or its file out with --exclude",
        )
    if not run.complete:
        where = f" in {run.last_started}" if run.last_started else ""
        raise refuse(
            entry.name,
            f"its suite ends before the end{where}",
            remedy="leave this test or its file out with --exclude",
        )
    return entry, files, run


def read_tree(entry: Project, members: Mapping[str, bytes]) -> Files:
    """Return the tree of a project.

    Raises:
        UserError: It is too large to be written for every run.
    """
    files = select_tree(entry, members)
    size = _measure_size(files)
    if size > MAX_TREE_BYTES:
        raise UserError(
            f"{entry.name} is too large to copy for every run",
            got=f"{size / 2**20:.0f} MiB, such as {max(files, key=lambda path: len(files[path]))}",
            remedy=f"name a part of it below {MAX_TREE_BYTES // 2**20} MiB in --path",
        )
    return files


def _measure_size(files: Files) -> int:
    return sum(len(file_bytes(path, text)) for path, text in files.items())


def _refuse_unknown(
    name: str, exclude: Collection[str], members: Collection[str], run: SuiteRun
) -> None:
    """Refuse names to exclude that nothing has, with those that come near."""
    tests = {*run.passed, *run.messages, *run.skipped}
    known = {*members, *tests}
    for test in tests:
        head = test.partition("[")[0]
        while head:
            known.add(head)
            head = head.rpartition("::")[0]
    for each in exclude:
        if each not in known:
            near = difflib.get_close_matches(each, known, n=3)
            raise UserError(
                f"{name} has no such test to exclude",
                got=each,
                remedy=f"did you mean {' or '.join(near)}?" if near else "name a file or test id",
            )


def _leave_out_red(name: str, run: SuiteRun) -> dict[str, str]:
    """Return the tests that fail, with reasons.

    Raises:
        UserError: They are too many.
    """
    failures = {test: run.messages[test] for test in sorted(run.failed)}
    num_tests = len({*failures, *run.passed})
    if not num_tests:
        raise refuse(name, "no tests", remedy="`python -m pytest` in its folder must find some")
    remedy = (
        "install what it lacks into the Python that you name (of PyPI: --requires), or leave tests "
        "out with --exclude"
    )
    if not run.passed:
        raise UserError(f"no test of {name} passes", got=name_some(failures), remedy=remedy)
    if len(failures) > MAX_RED_SHARE * num_tests:
        raise UserError(
            f"the suite of {name} is red: {len(failures)} of {num_tests} tests fail",
            got=name_some(failures),
            remedy=remedy,
        )
    return {test: f"fails here: {find_reason(text)}" for test, text in failures.items()}


def _leave_out_slow(
    name: str, run: SuiteRun, excluded: Collection[str], *, suite_s: float
) -> dict[str, str]:
    """Return the slowest test functions, so that the rest takes as long as a suite may.

    Raises:
        UserError: Without them too few tests are left.
    """
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for test in run.passed:
        if test not in excluded:
            seconds[test.partition("[")[0]] += run.seconds.get(test, 0.0)
            counts[test.partition("[")[0]] += 1
    slowest = sorted(seconds, key=lambda test: -seconds[test])
    left_s, num_left, slow = sum(seconds.values()), sum(counts.values()), {}
    for test in slowest:
        if left_s <= suite_s:
            break
        slow[test] = f"slow: {seconds[test]:.1f} s in {counts[test]} cases"
        left_s, num_left = left_s - seconds[test], num_left - counts[test]
    if slow and num_left < MIN_TESTS:
        named = ", ".join(f"{test} {seconds[test]:.1f} s" for test in slowest[:_NUM_SLOWEST])
        raise refuse(
            name,
            f"its suite is too slow: {sum(seconds.values()):.0f} s, at most {suite_s:.0f}; the "
            f"slowest: {named}",
            remedy="allow more with --suite-seconds, or leave slow tests out with --exclude",
        )
    return slow


def _run_again(
    entry: Project,
    files: Files,
    tests: Sequence[str],
    excluded: Collection[str],
    *,
    cache_dir: Path,
    on_run: Callable[[str], None],
) -> tuple[Project, FiveRuns]:
    """Run the suite five times, with plain asserts, which are faster, if it passes with them."""
    plain = entry.model_copy(update={"rewrites_asserts": False})
    interpreter = find_interpreter(plain.runtime, cache_dir=cache_dir)
    on_run("with plain asserts")
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        run = run_suite(server, files, ids=tests, limit_s=FIRST_LIMIT_S)
    entry = plain if run.passed.issuperset(tests) else entry
    interpreter = find_interpreter(entry.runtime, cache_dir=cache_dir)
    runs = run_five_times(
        files,
        ids=tests,
        excluded=excluded,
        limit_s=FIRST_LIMIT_S,
        interpreter=interpreter,
        on_run=on_run,
    )
    return entry, runs


def _leave_out_flaky(name: str, runs: FiveRuns) -> dict[str, str]:
    """Return the tests that did not pass in every run.

    Raises:
        UserError: They are too many, or a run did not end.
    """
    wrong = runs.red | runs.flaky
    if runs.ending != "exited":
        raise refuse(
            name,
            f"its suite, run again, ended otherwise: {runs.ending}",
            remedy="leave tests that start threads or processes out with --exclude",
        )
    if len(wrong) > MAX_RED_SHARE * (len(wrong) + len(runs.stable_tests)):
        raise UserError(
            f"{len(wrong)} tests of {name} do not pass in every one of five runs",
            got=name_some(wrong),
            remedy="leave those that depend on order, time or chance out with --exclude",
        )
    return {
        test: f"flaky: {find_reason(text)}"
        for test, text in wrong.items()
        if text != ABSENT  # its name will be another one next time
    }


def _refuse_few(name: str, num_tests: int) -> None:
    if num_tests < MIN_TESTS:
        count = f"{num_tests} test{'s' * (num_tests != 1)}"
        raise refuse(
            name,
            f"{count} that passed in every run, fewer than {MIN_TESTS}",
            remedy="a project needs more tests to tell bugs apart",
        )


def _refuse_compiled(name: str, members: Collection[str], mutated: Collection[str]) -> None:
    compiled = list_compiled(members, mutated)
    if compiled:
        remedy = "only pure Python can be run from a tree"
        raise refuse(name, f"not pure Python: {compiled[0]}", remedy=remedy)


def refuse_readable(
    name: str, mutated: Sequence[str], entry: Project, files: Files, interpreter: Interpreter
) -> None:
    """Refuse a project of which the sandbox holds a copy, with the answer in it."""
    imported = {find_import_path(path, entry.paths) for path in files}
    for path in mutated:
        inside = find_import_path(path, entry.paths)
        module = inside.partition("/")[0].removesuffix(".py")
        if module in _OF_PYTEST | sys.stdlib_module_names:
            raise refuse(
                name,
                f"{module} is loaded before any test runs, by pytest or the standard library",
                remedy="take another project: bugs in it would not be seen",
            )
        # Of a namespace package other parts may well be there.
        is_whole = bool(imported & {f"{module}/__init__.py", f"{module}.py"})
        copies = [
            copy
            for folder in interpreter.site
            for copied in (inside, *([module, f"{module}.py"] if is_whole else []))
            if (copy := Path(folder, copied)).exists()
            and any(copy.is_relative_to(package) for package in interpreter.packages)
        ]
        if copies:
            raise refuse(
                name,
                f"submitted code could read a copy of {inside} (in {copies[0]})",
                remedy="install the project with `pip install -e`, or remove it there",
            )


def _find_reached(
    files: Files, server: ForkServer, *, stable_tests: Sequence[str], paths: Collection[str]
) -> tuple[str, ...]:
    """Return the files in which tests execute enough code that could be changed.

    Code that runs at import only does not count: what breaks there breaks every test.
    """
    python = [path for path in sorted(paths) if path.endswith(".py")]
    lines = {path: _site_lines(files[path]) for path in python}
    traced = [path for path, found in lines.items() if len(found) >= MIN_REACHED_SITES]
    run = run_suite(
        server, files, ids=stable_tests, limit_s=TRACED_SLOWDOWN * SUITE_LIMIT_S, trace=traced
    )
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
