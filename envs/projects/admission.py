"""What any project must pass before bugs are planted in it: its suite, and what its tests reach.

For projects of PyPI (`envs/projects/add_project.py`) and for a user's own
(`envs/projects/local_folder.py`). The suite runs once as its authors run it, within a time that its
slowest tests cannot exceed; five times to see which tests pass in every run; and twice traced, to
see in which files bugs would be noticed. Tests that fail, differ or are too slow are left out by
name, unless they are too many. What is known of the suite then is all that a build needs of it.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from envs.errors import UserError
from envs.grading.test_suite import SuiteRun, run_suite
from envs.projects.baseline import (
    ABSENT,
    MAX_RED_SHARE,
    FiveRuns,
    Measured,
    find_reason,
    leave_out_heavy,
    name_some,
    run_five_times,
    trace_suite,
)
from envs.projects.layout import (
    find_reached,
    list_sources,
    refuse_parts_of_pytest,
    refuse_places,
)
from envs.projects.lock_file import Project, select_tree
from envs.projects.refusal import Command, Refusal, name_groups, refuse_unknown
from envs.projects.source_files import MAX_TREE_BYTES
from envs.sandbox.child_reporter import UNRUN
from envs.sandbox.fork_server import ForkServer
from envs.source_text import file_bytes
from envs.tasks.store import Files
from envs.tasks.suite_files import find_suite, is_doctest

SUITE_S = 30.0  # most CPU seconds of a suite, if nothing else is asked for
NUM_RUNS = 8  # of the suite: as its authors run it, five more, two traced ones
LOOK_FACTOR = 4  # times as long as that a first look at all of it may take
_AGAIN_FACTOR = 5  # times as long as the look a later run may: no test gets less than it had then
_HEAVY = 0.1  # of that, for a test that each bug would have to wait for
MIN_TESTS = 20  # that pass; fewer cannot tell bugs apart
FIRST_LIMIT_S = 600.0  # of a run, above which it hangs
_NUM_NAMED = 5  # that an error names
_ROOM = 1.2  # times what a suite took, as the time that a refusal advises
_DOCTEST = "doctest: it stands where everybody reads and changes it"


@dataclass(frozen=True)
class Admitted:
    """A project from which tasks can be made.

    Attributes:
        entry: With what was found out about its suite.
        files: Its tree.
        measured: What `envs/projects/baseline.py` keeps of the suite.
    """

    entry: Project
    files: Files
    measured: Measured


def admit(
    entry: Project,
    members: Mapping[str, bytes],
    *,
    command: Command,
    suite_s: float,
    cache_dir: Path,
    on_run: Callable[[str], None] = lambda _: None,
) -> Admitted:
    """Return a project with what was found out about its suite, after eight runs of it.

    Args:
        entry: What is known: names, licence, runtime.
        members: All files of the project, by path.
        command: What the user typed; files and folders that it excludes are not in the tree.
        suite_s: CPU seconds that its suite may take; the slowest tests are left out beyond.
        cache_dir: Where extra wheels are installed.
        on_run: Takes what a run of the suite is for, before each of `NUM_RUNS`.

    Raises:
        UserError: The project gives no tasks, for the reasons given.
        InfrastructureError: The sandbox failed.
    """
    refusal = Refusal(entry.name, command)
    roots = tuple(sorted({path.partition("/")[0] for path in members}))
    inside = [path for path in members if _is_below(path, command.exclude)]
    excluded = dict.fromkeys([*command.exclude, *inside], "excluded by hand")
    of_tree = {"roots": roots, "excluded_tests": excluded, "rewrites_asserts": True}
    entry = entry.model_copy(update=of_tree)
    interpreter = entry.find_interpreter(cache_dir=cache_dir)
    refuse_parts_of_pytest(refusal, entry, members, interpreter)
    refusal.stop()
    on_run("as its authors run it")
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        entry, files, first = _run_first(entry, members, server, suite_s=suite_s, refusal=refusal)
    tests = {*first.passed, *first.messages, *first.skipped, *first.slow}
    refuse_unknown(refusal, members, tests)
    excluded |= {test: _DOCTEST for test in (*first.passed, *first.slow) if is_doctest(test, files)}
    excluded |= _leave_out_red(refusal, first, python=entry.python)
    excluded |= _leave_out_slow(refusal, first, excluded, suite_s=suite_s)
    left = excluded.keys()  # ids, and functions with all their cases
    kept = sorted(test for test in first.passed if left.isdisjoint((test, test.partition("[")[0])))
    if refusal and first.passed:
        refuse_places(refusal, list_sources(files, kept), entry, members, files, interpreter)
    refusal.stop()
    entry, runs = _run_again(
        entry, files, kept, excluded, cache_dir=cache_dir, suite_s=suite_s, on_run=on_run
    )
    excluded |= _leave_out_flaky(refusal, runs, excluded)
    refusal.stop()
    entry = entry.model_copy(update={"excluded_tests": excluded})
    entry, measured = _watch(
        entry, files, runs, first.seconds, cache_dir=cache_dir, suite_s=suite_s, on_run=on_run
    )
    mutated = find_reached(files, measured)
    interpreter = entry.find_interpreter(cache_dir=cache_dir)
    refuse_places(refusal, mutated, entry, members, files, interpreter)
    refusal.stop()
    return Admitted(_complete(entry, files, runs, measured, mutated), files, measured)


def _complete(
    entry: Project, files: Files, runs: FiveRuns, measured: Measured, mutated: tuple[str, ...]
) -> Project:
    found = {
        "suite": tuple(sorted(find_suite(files, runs.stable_tests))),
        "mutated": mutated,
        "num_tests": len(measured.stable_tests),
        "suite_s": measured.cpu_s,
    }
    return entry.model_copy(update=found)


def _watch(
    entry: Project,
    files: Files,
    runs: FiveRuns,
    seconds: Mapping[str, float],
    *,
    cache_dir: Path,
    suite_s: float,
    on_run: Callable[[str], None],
) -> tuple[Project, Measured]:
    """Trace a suite; leave out what each bug would have to wait for, if enough is left."""
    interpreter = entry.find_interpreter(cache_dir=cache_dir)
    paths = list_sources(files, runs.stable_tests)
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        measured = trace_suite(files, runs, paths=paths, server=server, on_run=on_run)
    lighter, heavy = leave_out_heavy(measured, seconds, most_s=_HEAVY * suite_s)
    if len(lighter.stable_tests) < MIN_TESTS:
        return entry, measured
    excluded = entry.excluded_tests | heavy
    return entry.model_copy(update={"excluded_tests": excluded}), lighter


def _run_first(
    entry: Project,
    members: Mapping[str, bytes],
    server: ForkServer,
    *,
    suite_s: float,
    refusal: Refusal,
) -> tuple[Project, Files, SuiteRun]:
    """Run the suite as its authors do, with all other files if it needs them.

    Raises:
        UserError: It is too large, hangs, or cannot start.
    """
    files = read_tree(entry, members)
    look = partial(_look, server, suite_s=suite_s, skip=entry.excluded_tests)
    again = partial(run_suite, server, limit_s=FIRST_LIMIT_S, explain=True)
    run = look(files)
    are_tests = run.complete and run.passed and all("::" in test for test in run.failed)
    if run.failed or not are_tests:
        with_data = entry.model_copy(update={"data": ("",)})
        more = select_tree(with_data, members)
        if (
            more != files
            and _measure_size(more) <= MAX_TREE_BYTES
            and (not are_tests or again(more, ids=run.failed).passed)
        ):
            other = look(more)
            if len(other.passed) > len(run.passed) or len(other.failed) < len(run.failed):
                entry, files, run = with_data, more, other
    if run.complete and run.slow and run.failed:  # perhaps because others were ended
        mended = again(files, ids=run.failed).passed
        run = replace(run, passed=run.passed | mended, failed=run.failed - mended)
    _refuse_unfinished(refusal, run)
    return entry, files, run


def _look(server: ForkServer, files: Files, *, skip: Collection[str], suite_s: float) -> SuiteRun:
    """Run a suite of which nothing is known, within a bounded time."""
    return run_suite(
        server,
        files,
        ids=None,
        skip=skip,
        limit_s=FIRST_LIMIT_S,
        budget_s=LOOK_FACTOR * suite_s,
        explain=True,
    )


def _refuse_unfinished(refusal: Refusal, run: SuiteRun) -> None:
    """Refuse a suite that did not come to its end, with the test in which it stopped."""
    if run.complete:
        return
    where = f" in {run.last_started}" if run.last_started else ""
    test = [run.last_started.partition("[")[0]] if run.last_started else []
    remedy = "leave this test or its file out with --exclude"
    if run.ending == "overflow":
        test, reason = [], "its suite reports more than the sandbox takes"
        remedy = "leave test files out with --exclude"
    elif run.ending == "timeout":
        reason = f"its suite hangs: stopped after {FIRST_LIMIT_S:.0f} s{where}"
    else:
        reason = f"its suite ends before the end{where}"
    refusal.add(reason, remedy=remedy, exclude=test)
    refusal.stop()


def _is_below(path: str, folders: Collection[str]) -> bool:
    return not {str(folder) for folder in PurePosixPath(path).parents}.isdisjoint(
        folder.rstrip("/") for folder in folders
    )


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


def _leave_out_red(refusal: Refusal, run: SuiteRun, *, python: str) -> dict[str, str]:
    """Return the tests that fail, with reasons; refuse them if they are too many."""
    failures = {test: run.messages[test] for test in sorted(run.failed)}
    num_tests = len({*failures, *run.passed, *run.slow})
    if not num_tests:
        refusal.add("no tests", remedy="`python -m pytest` in its folder must find some")
    elif len(failures) > MAX_RED_SHARE * num_tests:
        reasons = "\n".join(failures.values())
        lacks = sorted(set(re.findall(r"No module named '([\w.]+)'", reasons)))
        install = f"`{python} -m pip install {' '.join(lacks[:_NUM_NAMED])}`"
        such_as = f"such as {install}, " if lacks and python else ""
        refusal.add(
            f"its suite is red: {len(failures)} of {num_tests} tests fail: {name_some(failures)}",
            remedy="install what it lacks into the Python that you name (of PyPI: --requires), "
            f"{such_as}or leave tests out with --exclude",
            exclude=name_groups(failures, run.passed) if run.passed and not lacks else (),
        )
    return {test: f"fails here: {find_reason(text)}" for test, text in failures.items()}


def _leave_out_slow(
    refusal: Refusal, run: SuiteRun, excluded: Mapping[str, str], *, suite_s: float
) -> dict[str, str]:
    """Return the slowest test functions, so that the rest takes as long as a suite may.

    Refused is a suite of which too few tests are left.
    """
    seconds: dict[str, float] = defaultdict(float)
    cases: dict[str, list[str]] = defaultdict(list)
    for test in (*run.passed, *run.slow):
        if test not in excluded:
            seconds[test.partition("[")[0]] += run.seconds.get(test, 0.0)
            cases[test.partition("[")[0]].append(test)
    ended = {
        function: {run.slow[test] for test in cases[function] if test in run.slow}
        for function in cases
    }
    slowest = sorted(seconds, key=lambda function: (not ended[function], -seconds[function]))
    left_s, num_left, slow = sum(seconds.values()), sum(map(len, cases.values())), {}
    for function in slowest:
        if left_s <= suite_s and not ended[function]:
            break
        count = len(cases[function])
        slow[function] = f"slow: {seconds[function]:.1f} s in {count} case{'s' * (count > 1)}"
        if ended[function]:
            slow[function] = f"slow: ended after {seconds[function]:.1f} s"
        if UNRUN in ended[function]:
            slow[function] = f"slow: those before it took {LOOK_FACTOR * suite_s:.0f} s"
        left_s, num_left = left_s - seconds[function], num_left - count
    if num_left < MIN_TESTS and slow:
        named = ", ".join(f"{test} {seconds[test]:.1f} s" for test in slowest[:_NUM_NAMED])
        more = "more than " if any(ended.values()) else ""
        total_s = sum(seconds.values())
        refusal.add(
            f"its suite is too slow: {more}{total_s:.0f} s, at most {suite_s:.0f}; the "
            f"slowest: {named}",
            remedy="allow more with --suite-seconds, or leave slow tests out with --exclude",
            suite_s=math.ceil(_ROOM * total_s),
        )
    elif num_left < MIN_TESTS and run.passed:
        _refuse_few(refusal, num_left, excluded)
    return slow


def _run_again(
    entry: Project,
    files: Files,
    tests: Sequence[str],
    excluded: Collection[str],
    *,
    cache_dir: Path,
    suite_s: float,
    on_run: Callable[[str], None],
) -> tuple[Project, FiveRuns]:
    """Run the suite five times, with plain asserts, which are faster, if it passes with them."""
    plain = entry.model_copy(update={"rewrites_asserts": False})
    interpreter = plain.find_interpreter(cache_dir=cache_dir)
    on_run("with plain asserts")
    budget_s = _AGAIN_FACTOR * LOOK_FACTOR * suite_s
    run_all = partial(
        run_five_times,
        files,
        ids=tests,
        excluded=excluded,
        limit_s=FIRST_LIMIT_S,
        budget_s=budget_s,
        on_run=on_run,
    )
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        begun = run_suite(server, files, ids=tests, limit_s=FIRST_LIMIT_S, budget_s=budget_s)
        if {*begun.passed, *begun.slow}.issuperset(tests):
            return plain, run_all(begun=begun, interpreter=interpreter, servers={0: server})
    return entry, run_all(interpreter=entry.find_interpreter(cache_dir=cache_dir))


def _leave_out_flaky(
    refusal: Refusal, runs: FiveRuns, excluded: Mapping[str, str]
) -> dict[str, str]:
    """Return the tests that did not pass in every run; refuse too many, or too few others."""
    wrong, num_stable = runs.red | runs.flaky, len(runs.stable_tests)
    if runs.ending != "exited":
        refusal.add(
            f"its suite, run again, ended otherwise: {runs.ending}",
            remedy="leave tests that start threads or processes out with --exclude",
        )
    elif len(wrong) > MAX_RED_SHARE * (len(wrong) + num_stable):
        refusal.add(
            f"{len(wrong)} tests do not pass in every one of five runs: {name_some(wrong)}",
            remedy="leave those that depend on order, time or chance out with --exclude",
            exclude=name_groups(wrong, runs.stable_tests),
        )
    elif num_stable < MIN_TESTS:
        _refuse_few(refusal, num_stable, excluded)
    return {
        test: f"flaky: {find_reason(text)}"
        for test, text in wrong.items()
        if text != ABSENT  # its name will be another one next time
    }


def _refuse_few(refusal: Refusal, num_tests: int, excluded: Mapping[str, str]) -> None:
    num_doctests = sum(reason == _DOCTEST for reason in excluded.values())
    beside = f", beside {num_doctests} doctests, which do not count" if num_doctests else ""
    count = f"{num_tests} test{'s' * (num_tests != 1)}"
    refusal.add(
        f"{count} that pass in every run, fewer than {MIN_TESTS}{beside}",
        remedy="a project needs more tests to tell bugs apart",
    )
