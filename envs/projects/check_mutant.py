"""Takes a planted bug through everything that makes it a task, or finds why it is none.

    reach      tests that execute a changed line: of two test functions, or nothing is hidden
    run        they fail the same tests twice, and at most half of the suite
    describe   what one failing test function, now visible, says; nothing else shows; of bugs that
               are combined the one of each, which fails with it and passes without, whatever
               becomes of the others; no repair that they pass but for one small change fails a
               hidden test, and none needs a word that is to be seen nowhere
    episode    gold makes its repair with the tools that agents have
    gold       the production grader scores the original code exactly 1
    no-op      the production grader runs the broken workspace: the third run of the bug, in which
               exactly the known tests fail, so that it scores exactly 0

Where gold is byte for byte the original tree, both gradings take the tests that reach the bug, gold
of the first task of a project all of them: what others do does not hang on the bug. Where a grading
disagrees with the runs before, the whole suite is run in their place, once more from the start.
"""

import itertools
import random
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from envs.grading.graders import PytestGrader, apply_submission, run_visible_tests
from envs.grading.test_suite import run_suite
from envs.mutation.bug import Bug
from envs.mutation.near_misses import list_near_misses
from envs.projects.baseline import Baseline
from envs.projects.lock_file import Project
from envs.projects.record_calls import Recording, choose_sequences
from envs.projects.repair_task import (
    GENERATOR,
    MAX_CASES,
    MAX_SHOWN,
    NOTHING_SHOWN,
    ShownBug,
    choose_limit_s,
    name_bug,
    name_task,
)
from envs.projects.run_mutant import (
    ONE_FAILS,
    choose_cpu_limit_s,
    has_one_function,
    hides_nothing,
    run_mutant,
)
from envs.projects.verdict_cache import Verdict, Verdicts
from envs.records import Outcome, Provenance
from envs.sandbox.fork_server import ForkServer
from envs.tasks.assemble import TaskFacts, assemble
from envs.tasks.build_report import (
    DIFFERS,
    GOLD_FAILS,
    NO_SANDBOX,
    ONE_REACHES,
    UNREACHED,
    UNSTEADY,
)
from envs.tasks.leaks import find_leak
from envs.tasks.parallel import run_in_order
from envs.tasks.store import BuiltTask, Files, TaskStore
from envs.tasks.unshown import UNSHOWN, needs_unshown_word
from envs.tasks.validate import apply_gold, find_stuck_gold, score
from envs.tasks.visible_tests import TestFunction, count_cases, parse_test_id

ENTANGLED = "a visible test shows more than one of its bugs, or none"


@dataclass(frozen=True)
class MutantResult:
    """What became of a bug, with the task if it is one."""

    bug: Bug
    verdict: Verdict
    task: BuiltTask | None = None


@dataclass
class MutantCheck:
    """What all bugs of a project are checked with; safe from any thread.

    Attributes:
        files: The project's unchanged tree.
        suite: What is known of its tests.
        seed: Of the build.
        server: Has pytest preloaded; may serve several projects.
        verdicts: What is known of bugs that were checked before.
        recording: Recorded calls of the project.
    """

    project: Project
    files: Files
    suite: Baseline
    seed: int
    server: ForkServer
    verdicts: Verdicts
    recording: Recording
    _gold_passed: bool = field(default=False, init=False)

    def run_all(
        self, bugs: Iterable[Bug], *, pool: Executor, ahead: Callable[[], int]
    ) -> Generator[MutantResult, None, None]:
        """Yield what becomes of each bug, in order, with at most `ahead()` begun.

        Raises:
            InfrastructureError: The sandbox failed on several bugs in a row.
        """
        return run_in_order(
            self.run,
            bugs,
            on_failure=lambda bug, _: MutantResult(bug, Verdict(frozenset(), NO_SANDBOX)),
            pool=pool,
            ahead=ahead,
        )

    def run(self, bug: Bug) -> MutantResult:
        """Check a bug, unless it is known what becomes of it.

        Raises:
            InfrastructureError: The sandbox failed.
        """
        known = self.verdicts.get(bug)
        if known is None:
            found = self._check(bug)
            self.verdicts.add(bug, found.verdict)
            return found
        if known.reject is not None:
            return MutantResult(bug, known)
        return self._with_calls(MutantResult(bug, known, self._assemble(bug, known)), known.calls)

    def _check(self, bug: Bug) -> MutantResult:
        reaching = self.suite.impact.select_tests(bug.mutations)
        if hides_nothing(reaching):
            reject = ONE_REACHES if reaching else UNREACHED
            return MutantResult(bug, Verdict(frozenset(), reject))
        for ids in dict.fromkeys((reaching, frozenset(self.suite.stable_tests))):
            run = run_mutant(bug, ids=ids, server=self.server, files=self.files, suite=self.suite)
            found = MutantResult(bug, run) if run.reject else self._show(bug, run.failing)
            if found.task is not None and (stuck := find_stuck_gold(found.task)):
                return MutantResult(bug, Verdict(run.failing, stuck))
            if found.task is not None and (objection := self._grade(found.task, reaching=ids)):
                found = MutantResult(bug, Verdict(run.failing, objection, is_lasting=False))
            if found.verdict.reject != DIFFERS or run.reject:
                break
        if found.task is None:
            return found
        calls = choose_sequences(
            bug, recording=self.recording, files=self.files, server=self.server
        )
        return self._with_calls(found, calls)

    def _with_calls(self, found: MutantResult, numbers: tuple[int, ...]) -> MutantResult:
        """Have the task graded by recorded calls too; by none where they do not tell its bugs."""
        if found.task is None or not numbers:
            return found
        recorded = self.recording.calls
        hidden = found.task.hidden.model_copy(
            update={"calls_sha": recorded.sha256, "calls": numbers}
        )
        task = replace(found.task, hidden=hidden, calls=recorded)
        return replace(found, verdict=replace(found.verdict, calls=numbers), task=task)

    def _show(self, bug: Bug, failing: frozenset[str]) -> MutantResult:
        """Choose the visible test function: the first failing one with which nothing leaks."""
        if len(bug.mutations) > 1:
            return self._show_each(bug, failing)
        if has_one_function(failing):
            return self._show_case(bug, failing)
        order, changed = (
            sorted({parse_test_id(test) for test in failing}),
            bug.apply(self.files),
        )
        random.Random(name_bug(self._provenance, changed)).shuffle(order)
        verdict = Verdict(failing, NOTHING_SHOWN)
        for shown in order[:MAX_SHOWN]:
            found = self._shown(changed, (shown,))
            statement, reject = found.describe(failing, server=self.server)
            if reject is not None:
                verdict = Verdict(failing, reject)
                continue
            verdict = Verdict(failing, None, (shown,), statement)
            task = self._assemble(bug, verdict)
            if (reject := self._find_fault(task, bug, found)) is None:
                return MutantResult(bug, verdict, task)
            verdict = Verdict(failing, reject)
        return MutantResult(bug, verdict)

    def _find_fault(self, task: BuiltTask, bug: Bug, found: ShownBug) -> str | None:
        """Say what makes a task of one mutation leak or unfair, or None."""
        if (leak := find_leak(task)) is not None:
            return leak
        limit_s = choose_cpu_limit_s(self.suite)
        for miss in list_near_misses(self.files[bug.mutations[0].path], bug.mutations[0]):
            changed = Bug((miss,)).apply(self.files)
            seen = found.repaired | changed
            run = run_suite(self.server, seen, ids=found.visible_tests, limit_s=limit_s)
            if run.passed.issuperset(found.visible_tests):
                ids = task.hidden.fail_to_pass
                run = run_suite(self.server, self.files | changed, ids=ids, limit_s=limit_s)
                if not run.passed.issuperset(ids):
                    return UNSHOWN
        return UNSHOWN if needs_unshown_word(task) else None

    def _show_each(self, bug: Bug, failing: frozenset[str]) -> MutantResult:
        """Show of each mutation the function that its own task shows."""
        singles = [Bug((mutation,)) for mutation in bug.mutations]
        alone = [self.verdicts.get(each) or self._check(each).verdict for each in singles]
        if any(each.reject or each.case for each in alone):
            return MutantResult(bug, Verdict(failing, NOTHING_SHOWN))
        shown = tuple(function for each in alone for function in each.shown)
        found = self._shown(bug.apply(self.files), shown)
        statement, reject = found.describe(failing, server=self.server)
        if reject == UNSTEADY:
            return MutantResult(bug, Verdict(failing, reject))
        if reject is not None or not self._tells_apart(found, bug, shown):
            return MutantResult(bug, Verdict(failing, ENTANGLED))
        verdict = Verdict(failing, None, shown, statement)
        task = self._assemble(bug, verdict)
        if (reject := find_leak(task)) is not None:
            return MutantResult(bug, Verdict(failing, reject))
        return MutantResult(bug, verdict, task)

    def _tells_apart(self, found: ShownBug, bug: Bug, shown: tuple[TestFunction, ...]) -> bool:
        """Tell whether of each few of the bugs exactly the functions that show these fail."""
        if len(set(shown)) < len(shown):
            return False
        pairs = list(zip(bug.mutations, shown, strict=True))
        for number in range(1, len(pairs)):
            for left in itertools.combinations(pairs, number):
                mutations, wanted = zip(*left, strict=True)
                tree = found.repaired | Bug(mutations).apply(self.files)
                said = run_visible_tests(self.server, tree, ids=found.visible_tests)
                if {parse_test_id(test) for test, _ in said} != set(wanted):
                    return False
        return True

    def _show_case(self, bug: Bug, failing: frozenset[str]) -> MutantResult:
        """Show one failing case of the only function that fails; the others are hidden."""
        (shown,), changed = {parse_test_id(test) for test in failing}, bug.apply(self.files)
        order = list(range(count_cases(self.files[shown[0]], shown[1])))
        random.Random(name_bug(self._provenance, changed)).shuffle(order)
        verdict = Verdict(failing, NOTHING_SHOWN if order else ONE_FAILS)
        for number in order[:MAX_CASES]:
            found = self._shown(changed, (shown,), case=(number, ""))
            found = found.find_case(shown, server=self.server)
            if not found.visible_tests:
                continue
            statement, reject = found.describe(found.visible_tests, server=self.server)
            if reject is not None:
                verdict = Verdict(failing, reject)
                continue
            verdict = Verdict(failing, None, (shown,), statement, (number, found.visible_tests[0]))
            task = self._assemble(bug, verdict)
            if (reject := self._find_fault(task, bug, found)) is None:
                return MutantResult(bug, verdict, task)
            verdict = Verdict(failing, reject)
        return MutantResult(bug, verdict)

    def _shown(
        self,
        changed: Files,
        shown: tuple[TestFunction, ...],
        *,
        case: tuple[int, str] | None = None,
    ) -> ShownBug:
        tests, suite = self.suite.stable_tests, self.project.suite
        return ShownBug.of(self.files, changed, tests=tests, shown=shown, suite=suite, case=case)

    def _grade(self, task: BuiltTask, *, reaching: frozenset[str]) -> str | None:
        """Return what the production grader objects to in gold or no-op, or None."""
        grader = PytestGrader(self.server, TaskStore.of([task]))
        hidden, gold = task.hidden, apply_gold(task)
        is_pristine = apply_submission(self.files, task.public.editable, gold) == self.files
        if is_pristine:
            rest = tuple(test for test in hidden.pass_to_pass if test in reaching)
            hidden = hidden.model_copy(update={"pass_to_pass": rest})
        passes = self._gold_passed and score(grader.grade(hidden, gold)) == 1.0
        if not passes:  # a test may lean on one that was left out: all of them decide
            passes = score(grader.grade(task.hidden, gold)) == 1.0
            self._gold_passed |= passes and is_pristine
        if not passes:
            return GOLD_FAILS
        return None if _is_noop(grader.grade(hidden, task.workspace)) else DIFFERS

    def _assemble(self, bug: Bug, verdict: Verdict) -> BuiltTask:
        project, tests, changed = self.project, self.suite.stable_tests, bug.apply(self.files)
        shown = self._shown(changed, verdict.shown, case=verdict.case)
        of_function = [test for test in tests if parse_test_id(test) in verdict.shown]
        seen = [test for test in of_function if test in verdict.failing]
        return assemble(
            TaskFacts(
                **shown._asdict(),
                task_id=name_task(name_bug(self._provenance, changed)),
                project=project.name,
                split=project.split,
                provenance=self._provenance,
                statement=verdict.statement,
                tests=tests,
                failing=verdict.failing,
                operators=bug.operators,
                limit_s=choose_limit_s(project.suite_s),
                num_sites=len(bug.mutations),
                pristine=self.files,
                runtime=project.runtime,
                mutated_functions={one.function.rpartition(".")[2] for one in bug.mutations},
                call_distance=self.suite.impact.measure_distance(bug.mutations, tests=seen),
            )
        )

    @property
    def _provenance(self) -> Provenance:
        return Provenance(
            source=self.project.source,
            origin=self.project.origin,
            licence=self.project.licence,
            sha256=self.project.sha256,
            generator=GENERATOR,
            seed=self.seed,
        )


def _is_noop(outcome: Outcome) -> bool:
    """Tell whether exactly the known tests fail; the score is 0 then."""
    return (outcome.fail_to_pass_rate, outcome.pass_to_pass_rate) == (0.0, 1.0)
