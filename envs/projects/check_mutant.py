"""Takes a planted bug through everything that makes it a task, or finds why it is none.

    reach      which green tests execute a changed line: of two test functions, or nothing is hidden
    probe      they fail the same tests twice, and at most half of the suite
    describe   what one failing test function, now visible, says; nothing else shows
    gold       the production grader scores the original code exactly 1
    no-op      the production grader runs the whole suite of the broken workspace: the third run of
               the bug, in which exactly the known tests fail, so that it scores exactly 0

Where the whole suite disagrees with the tests that reach a bug, all of it is run in their place,
once more from the start. Gold that is byte for byte the tree whose whole suite the grader has just
scored 1 need only pass the tests that reach the bug; the first of each project passes all.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from envs.errors import InfrastructureError
from envs.grading.graders import apply_submission
from envs.mutation.bug import Bug
from envs.projects.baseline import Baseline
from envs.projects.lock_file import Project
from envs.projects.repair_task import assemble, describe, shown_functions, told
from envs.projects.run_mutant import has_one_function, probe
from envs.projects.verdict_cache import Verdict, Verdicts
from envs.records import Grader, HiddenTask, Outcome, RepairTask
from envs.sandbox.fork_server import ForkServer
from envs.tasks.build_report import DIFFERS, GOLD_FAILS
from envs.tasks.store import BuiltTask, Files
from envs.tasks.streak import NO_SANDBOX, Streak
from envs.tasks.validate import gold_files, graded, leak, score

UNREACHED = "no test reaches it"
ONE_REACHES = "one test function only reaches it"
NOTHING_SHOWN = "no visible test shows it"
MAX_SHOWN = 3  # failing test functions that are tried as the visible one


@dataclass(frozen=True)
class Tried:
    """What became of a bug, with the task if it is one."""

    bug: Bug
    verdict: Verdict
    task: BuiltTask | None


class OpenTasks:
    """The tasks that are being checked, for a grader to look up."""

    def __init__(self) -> None:
        self.public: dict[str, RepairTask] = {}
        self.hidden: dict[str, HiddenTask] = {}
        self._tasks: dict[str, BuiltTask] = {}

    @contextmanager
    def holding(self, task: BuiltTask) -> Iterator[None]:
        """Have a task known for a while; no two of one id at once."""
        name = task.public.id
        self.public[name], self.hidden[name], self._tasks[name] = task.public, task.hidden, task
        try:
            yield
        finally:
            del self.public[name], self.hidden[name], self._tasks[name]

    def workspace(self, task: RepairTask) -> Files:
        """Return the broken workspace as handed out."""
        return dict(self._tasks[task.id].workspace)

    def tests(self, hidden: HiddenTask) -> Files:
        """Return the pristine tree, tests included."""
        return dict(self._tasks[hidden.task_id].tests)


@dataclass
class Trial:
    """What all bugs of a project are tried with; safe from any thread.

    Attributes:
        files: The project's unchanged tree.
        suite: What is known of its tests.
        server: Has pytest preloaded; may serve several projects.
        grader: The production grader of `open_tasks`.
    """

    project: Project
    files: Files
    suite: Baseline
    seed: int
    server: ForkServer
    grader: Grader
    open_tasks: OpenTasks
    verdicts: Verdicts
    _gold_passed: bool = field(default=False, init=False)

    def run(self, bug: Bug) -> Tried:
        """Try a bug, unless it is known what becomes of it.

        Raises:
            InfrastructureError: The sandbox failed.
        """
        known = self.verdicts.of(bug)
        if known is not None:
            return Tried(bug, known, self._task(bug, known) if known.reject is None else None)
        found, is_lasting = self._try(bug)
        if is_lasting:
            self.verdicts.add(bug, found.verdict)
        return found

    def _try(self, bug: Bug) -> tuple[Tried, bool]:
        """Return what becomes of a bug, and whether another try would give the same."""
        reaching, green = self.suite.reach.tests(bug.mutations), frozenset(self.suite.green)
        if has_one_function(reaching):
            reject = ONE_REACHES if reaching else UNREACHED
            return Tried(bug, Verdict(frozenset(), reject), None), True
        for ids in dict.fromkeys((reaching, green)):
            probed = probe(bug, ids=ids, server=self.server, files=self.files, suite=self.suite)
            if probed.reject is not None:
                found = Tried(bug, Verdict(probed.failing, probed.reject), None)
                return found, probed.is_lasting
            found = self._shown(bug, probed.failing)
            if found.task is not None:
                found = self._graded(found, found.task, reaching=ids)
            if found.verdict.reject != DIFFERS:
                break
        return found, found.verdict.reject not in (DIFFERS, GOLD_FAILS)

    def _shown(self, bug: Bug, failing: frozenset[str]) -> Tried:
        """Choose the test function that is shown: the first that fails and tells nothing else."""
        order = shown_functions(bug, project=self.project, files=self.files, failing=failing)
        verdict = Verdict(failing, NOTHING_SHOWN)
        for shown in order[:MAX_SHOWN]:
            task = self._task(bug, Verdict(failing, None, shown))
            with self.open_tasks.holding(task):
                statement = describe(task, grader=self.grader)
            task = told(task, statement, bug=bug)
            reject = leak(task) if statement else NOTHING_SHOWN
            if reject is None:
                return Tried(bug, Verdict(failing, None, shown, statement), task)
            verdict = Verdict(failing, reject)
        return Tried(bug, verdict, None)

    def _graded(self, found: Tried, task: BuiltTask, *, reaching: frozenset[str]) -> Tried:
        """Return what was found, unless the production grader says otherwise of gold or no-op."""
        reject = None
        hidden = task.hidden
        with self.open_tasks.holding(task):
            if not self._gold_passes(task, hidden, reaching):
                reject = GOLD_FAILS
            elif not _is_noop(graded(self.grader, hidden, task.workspace)):
                reject = DIFFERS
        if reject is None:
            return found
        return Tried(found.bug, Verdict(found.verdict.failing, reject), None)

    def _gold_passes(self, task: BuiltTask, hidden: HiddenTask, reaching: frozenset[str]) -> bool:
        gold = gold_files(task)
        is_pristine = apply_submission(self.files, task.public.editable, gold) == self.files
        if is_pristine and self._gold_passed:
            rest = tuple(test for test in hidden.pass_to_pass if test in reaching)
            reached = hidden.model_copy(update={"pass_to_pass": rest})
            if score(graded(self.grader, reached, gold)) == 1.0:
                return True  # else a test may lean on one that was left out: all of them decide
        passes = score(graded(self.grader, hidden, gold)) == 1.0
        self._gold_passed |= passes and is_pristine
        return passes

    def _task(self, bug: Bug, verdict: Verdict) -> BuiltTask:
        task = assemble(
            bug,
            failing=verdict.failing,
            shown=verdict.shown,
            project=self.project,
            files=self.files,
            suite=self.suite,
            seed=self.seed,
        )
        return told(task, verdict.statement, bug=bug)


def _is_noop(outcome: Outcome) -> bool:
    """Tell whether exactly the known tests fail; the score is 0 then."""
    return (outcome.fail_to_pass_rate, outcome.pass_to_pass_rate) == (0.0, 1.0)


def tried(
    bugs: Iterable[Bug], *, trial: Trial, pool: Executor, ahead: int
) -> Generator[Tried, None, None]:
    """Yield what becomes of each bug, in order, with at most `ahead` begun.

    A bug on which the sandbox fails is tried again, in a fresh one, then given up.

    Raises:
        InfrastructureError: The sandbox failed on several bugs in a row.
    """
    streak, pending = Streak(), deque[tuple[Bug, Future[Tried]]]()
    try:
        for bug in bugs:
            pending.append((bug, pool.submit(trial.run, bug)))
            if len(pending) >= ahead:
                yield _settled(*pending.popleft(), trial, streak)
        while pending:
            yield _settled(*pending.popleft(), trial, streak)
    finally:
        for _, work in pending:
            work.cancel()


def _settled(bug: Bug, work: Future[Tried], trial: Trial, streak: Streak) -> Tried:
    try:
        try:
            found = work.result()
        except InfrastructureError:
            found = trial.run(bug)  # a fork-server starts afresh after a failure
    except InfrastructureError as error:
        streak.failed(error)
        return Tried(bug, Verdict(frozenset(), NO_SANDBOX), None)
    streak.worked()
    return found
