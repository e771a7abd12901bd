"""Makes tasks of benchmark instances, each checked as if nobody had checked it before.

    pristine   the tests that an instance names pass in five runs without its bug
    broken     three runs with it fail those of FAIL_TO_PASS and no others (where it names none, the
               same ones)
    shown      one failing test function, or one case of the only one, becomes visible
    gate       what any task passes: gold scores 1, no-op 0, nothing leaks

PASS_TO_PASS tests that do not pass here at all are left out. A reject says what failed, with the
error's last line.

Not covered: fixes that remove or rename files, tests that need a network or an older Python.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from envs.errors import UserError
from envs.grading.graders import VISIBLE_LIMIT_S, PytestGrader
from envs.grading.test_suite import SuiteRun, is_test_file, run_suite
from envs.importers.instance import Instance, RejectError, Trees
from envs.importers.repository import Repository
from envs.importers.say_why import explain_missing, find_failure
from envs.mutation.patches import apply_edits, make_edits
from envs.projects.baseline import (
    RANDOM_SEEDS,
    SUITE_LIMIT_S,
    FiveRuns,
    find_reason,
    run_five_times,
)
from envs.projects.layout import refuse_copies
from envs.projects.refusal import Command, Refusal
from envs.projects.repair_task import (
    MAX_CASES,
    MAX_SHOWN,
    ShownBug,
    choose_limit_s,
    name_bug,
    name_task,
)
from envs.projects.run_mutant import hides_nothing
from envs.records import Provenance
from envs.sandbox.fork_server import ForkServer
from envs.tasks.assemble import TaskFacts, assemble
from envs.tasks.build_report import GOLD_FAILS, NO_SANDBOX, TOO_LONG, UNSTEADY
from envs.tasks.leaks import find_leak
from envs.tasks.parallel import run_in_order
from envs.tasks.store import BuiltTask, Files, TaskStore, hash_tree
from envs.tasks.suite_files import find_suite
from envs.tasks.unshown import UNSHOWN, needs_unshown_word
from envs.tasks.validate import check_task
from envs.tasks.visible_tests import TestFunction, count_cases, parse_test_id

GENERATOR = "import/4"
NUM_BUG_RUNS = 3


@dataclass(frozen=True)
class Imported:
    """What became of an instance: a task that counts, or the reason why there is none."""

    name: str
    task: BuiltTask | None
    reject: str = ""


def import_instances(
    instances: Sequence[Instance], repository: Repository, *, workers: int = 2
) -> Iterator[Imported]:
    """Yield what becomes of each instance, in order.

    Args:
        instances: All of the repository, or programs of their own.
        repository: Its tree, empty for programs, and what runs its tests.
        workers: Sandboxed runs under way at once.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    mutants = [each.named or frozenset() for each in instances if each.is_mutant]
    seen: set[str] = set()
    with ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        servers = {
            seed: stack.enter_context(
                ForkServer(preload="pytest", hash_seed=seed, interpreter=repository.interpreter)
            )
            for seed in (0, *RANDOM_SEEDS)
        }
        shared = _run_five_times(
            repository, repository.files, frozenset().union(*mutants), servers=servers
        )
        check = InstanceCheck(repository, shared, servers)
        for found in run_in_order(
            check.run,
            instances,
            on_failure=lambda instance, _: Imported(instance.name, None, NO_SANDBOX),
            pool=pool,
            ahead=lambda: 2 * workers,
        ):
            if found.task is not None and found.task.public.id in seen:
                yield Imported(found.name, None, "repeats another instance")
                continue
            if found.task is not None:
                seen.add(found.task.public.id)
            yield found


@dataclass(frozen=True)
class _Measured:
    """An instance whose tests have run.

    Attributes:
        changed: Files with the bug, as it leaves them.
        suite: Files of the tests.
        failing: Ids of the tests that the bug fails.
        tests: Ids of all tests that count.
        cpu_s: CPU seconds of a run of them.
    """

    instance: Instance
    trees: Trees
    changed: Files
    suite: frozenset[str]
    failing: frozenset[str]
    tests: tuple[str, ...]
    cpu_s: float


@dataclass(frozen=True)
class InstanceCheck:
    """What all instances of a file are checked with; safe from any thread.

    Attributes:
        shared: Five runs of the repository, for all bugs that were planted in it.
        servers: By hash seed; each has pytest preloaded.
    """

    repository: Repository
    shared: FiveRuns
    servers: Mapping[int, ForkServer]

    @property
    def server(self) -> ForkServer:
        """Runs all but the five runs."""
        return self.servers[0]

    def run(self, instance: Instance) -> Imported:
        """Check an instance.

        Raises:
            InfrastructureError: The sandbox failed.
        """
        try:
            measured = self._measure(instance)
            task = self._show(measured)
        except RejectError as reject:
            return Imported(instance.name, None, str(reject))
        grader = PytestGrader(self.server, TaskStore.of([task]))
        objection = check_task(task, grader=grader).reject
        if objection == GOLD_FAILS:
            ids = {*task.hidden.fail_to_pass, *task.hidden.pass_to_pass}
            objection += find_failure(self.server, measured.trees.pristine, ids=ids)
        return Imported(instance.name, None if objection else task, objection or "")

    def _measure(self, instance: Instance) -> _Measured:
        trees = instance.plant(self.repository.files)
        changed = self._list_changed(trees)
        suite = self.shared
        if not instance.is_mutant:
            suite = _run_five_times(
                self.repository, trees.pristine, instance.named, servers=self.servers
            )
        failing, passing = _select_tests(instance, trees.pristine, suite)
        limit_s = choose_limit_s(suite.cpu_s)
        failing = self._run_broken(instance, trees, failing, passing, limit_s=limit_s)
        tests = tuple(sorted(failing | passing))
        if hides_nothing(failing):
            raise RejectError("one failing test only, so that none would be hidden")
        files = find_suite(trees.pristine, tests) | set(filter(is_test_file, trees.pristine))
        return _Measured(
            instance, trees, changed, files | trees.test_files, failing, tests, suite.cpu_s
        )

    def _list_changed(self, trees: Trees) -> Files:
        changed = {
            path: text for path, text in trees.broken.items() if trees.pristine.get(path) != text
        }
        if not changed:
            raise RejectError("the bug changes no Python source")
        if self.repository.files:
            try:
                project, interpreter = self.repository.project, self.repository.interpreter
                refusal = Refusal(project.name, Command([]))
                refuse_copies(refusal, [*changed], project, trees.pristine, interpreter)
                refusal.stop()
            except UserError as error:
                raise RejectError(f"submitted code could read the answer ({error})") from error
        return changed

    def _run_broken(
        self,
        instance: Instance,
        trees: Trees,
        failing: frozenset[str],
        passing: frozenset[str],
        *,
        limit_s: float,
    ) -> frozenset[str]:
        """Return which tests fail in three runs with the bug: those that the instance names."""
        ids, seen = failing | passing, failing if instance.failing is not None else None
        for _ in range(NUM_BUG_RUNS):
            run = run_suite(self.server, trees.broken, ids=ids, limit_s=limit_s)
            where = f"in {run.last_started or 'an import'}"
            if run.ending == "timeout" or run.cpu_s >= limit_s:
                raise RejectError(f"{TOO_LONG} ({where})")
            broken = next((text for test, text in run.messages.items() if "::" not in test), "")
            if not run.complete or (broken and instance.is_mutant):
                why = find_reason(broken) if broken else f"it ended {where}"
                raise RejectError(f"with the bug, collection or the run itself breaks ({why})")
            found = ids - run.passed
            if not found and seen is None:
                raise RejectError("no test fails with the bug")
            if seen is not None and found != seen:
                raise RejectError(_say_difference(found, seen, run))
            seen = found
        return seen or frozenset()

    def _show(self, measured: _Measured) -> BuiltTask:
        """Return the task, in which the first failing function, or case, that will do is shown."""
        trees, failing = measured.trees, measured.failing
        provenance = Provenance(
            source="path",
            origin=measured.instance.origin,
            licence=self.repository.project.licence,
            sha256=hash_tree(trees.pristine),
            generator=GENERATOR,
            seed=0,
        )
        name = name_bug(provenance, measured.changed)
        draw, reject = random.Random(name), "the visible test alone does not show the bug"
        order: list[tuple[TestFunction, int | None]] = [
            (shown, None) for shown in sorted({parse_test_id(test) for test in failing})
        ]
        if len(order) == 1:
            shown = order[0][0]
            order = [(shown, at) for at in range(count_cases(trees.pristine[shown[0]], shown[1]))]
            if not order:
                reject = f"one failing test function only, whose cases are not literal ({shown[1]})"
        draw.shuffle(order)
        for shown, case in order[
            : MAX_SHOWN if len(order) > 1 and order[0][1] is None else MAX_CASES
        ]:
            bug = self._show_one(measured, shown, case)
            told = bug.describe(_visible_failing(bug, failing, case), server=self.server)
            if told.reject == UNSTEADY and not measured.instance.statement:
                reject = UNSTEADY
                continue
            if told.reject not in (None, UNSTEADY):
                continue
            if apply_edits(bug.workspace, make_edits(bug.workspace, bug.repaired)) != bug.repaired:
                raise RejectError("its repair is no replacement of lines (odd line ends)")
            task = self._assemble(
                measured, bug, told.statement, provenance, task_id=name_task(name)
            )
            reject = find_leak(task) or (UNSHOWN if needs_unshown_word(task) else "")
            if not reject:
                return task
        raise RejectError(reject)

    def _show_one(self, measured: _Measured, shown: TestFunction, number: int | None) -> ShownBug:
        """Show a test function; if a number is given, only that case of it."""
        bug = ShownBug.of(
            measured.trees.pristine,
            measured.changed,
            tests=measured.tests,
            shown=(shown,),
            suite=measured.suite,
            case=None if number is None else (number, ""),
        )
        return bug if number is None else bug.find_case(shown, server=self.server)

    def _assemble(
        self,
        measured: _Measured,
        bug: ShownBug,
        statement: str,
        provenance: Provenance,
        *,
        task_id: str,
    ) -> BuiltTask:
        return assemble(
            TaskFacts(
                **bug._asdict(),
                task_id=task_id,
                project=measured.instance.project,
                split=self.repository.project.split,
                provenance=provenance,
                statement=measured.instance.statement or statement,
                tests=measured.tests,
                failing=measured.failing,
                operators=("imported",),
                limit_s=choose_limit_s(measured.cpu_s),
                pristine=measured.trees.pristine,
                runtime=self.repository.project.runtime,
            )
        )


def _run_five_times(
    repository: Repository,
    files: Files,
    ids: frozenset[str] | None,
    *,
    servers: Mapping[int, ForkServer],
) -> FiveRuns:
    """Run tests without a bug: those named whose file is there, or all of the tree."""
    if ids is not None:
        ids = frozenset(test for test in ids if test.partition("::")[0] in files)
        if not ids:
            return FiveRuns()  # pytest would make all of none
    return run_five_times(
        files,
        ids=ids,
        excluded=repository.project.excluded_tests,
        limit_s=VISIBLE_LIMIT_S if ids is None else SUITE_LIMIT_S,
        servers=servers,
    )


def _visible_failing(bug: ShownBug, failing: frozenset[str], case: int | None) -> Collection[str]:
    return failing if case is None else bug.visible_tests


def _select_tests(
    instance: Instance, files: Files, suite: FiveRuns
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the tests that should fail and pass; of the latter those that pass here at all."""
    stable = frozenset(suite.stable_tests)
    if suite.ending != "exited":
        why = f"{suite.ending}: leave out with --exclude what hangs or exits"
        raise RejectError(f"without the bug, the tests do not end ({why})")
    if instance.failing is None:
        passing = stable if instance.passing is None else stable & instance.passing
        if not passing:
            raise RejectError(f"no test passes without the bug{_first_reason(suite)}")
        return frozenset(), passing
    if not instance.failing:
        raise RejectError("FAIL_TO_PASS is empty")
    for test in sorted(instance.failing - stable):
        said = suite.red.get(test) or suite.flaky.get(test) or suite.red.get(test.split("::")[0])
        if said is None:
            raise RejectError(f"FAIL_TO_PASS names a test that is not there ({test}: "
                              f"{explain_missing(test, files)})")  # fmt: skip
        reason = "FAIL_TO_PASS does not pass five times without the bug"
        raise RejectError(f"{reason} ({test}: {find_reason(said)})")
    failing, passing = instance.failing, stable & (instance.passing or frozenset())
    if instance.is_mutant and not passing:
        raise RejectError(f"nothing of PASS_TO_PASS passes here{_first_reason(suite)}")
    if instance.is_mutant and len(failing) > (len(failing) + len(passing)) / 2:
        raise RejectError("more than half of the named tests fail")
    return failing, passing


def _first_reason(suite: FiveRuns) -> str:
    test, said = next(iter((suite.red | suite.flaky).items()), ("", ""))
    return f" ({test}: {find_reason(said)})" if test else ""


def _say_difference(found: frozenset[str], claimed: frozenset[str], run: SuiteRun) -> str:
    """Say how the tests that fail with the bug differ from those that should."""
    if kept := sorted(claimed - found):
        return f"a test that should fail passes with the bug ({kept[0]})"
    lost = min(found - claimed)
    said = run.messages.get(lost) or run.messages.get(lost.partition("::")[0]) or "did not run"
    return f"a test that should pass fails with the bug ({lost}: {find_reason(said)})"
