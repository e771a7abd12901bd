"""Makes tasks of SWE-smith-style instances, each checked as if nobody had checked it before.

An instance's claims are measured: the tests that it names must pass in five runs without the bug,
and three runs with it must fail those of FAIL_TO_PASS and no others. PASS_TO_PASS tests that do not
pass here at all are left out. Then it becomes a task like those of the `projects` source, for the
same last gate (`envs/tasks/validate.py`).

Not covered: bugs that add or remove files, and repositories whose tests need packages that the
sandbox lacks; their instances are rejected with the reason.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from envs.files import hash_text
from envs.grading.graders import PytestGrader
from envs.grading.test_suite import is_test_file, run_suite
from envs.mutation.patches import apply_edits, apply_patch, gold_edits, gold_patch
from envs.projects.instances import Instance
from envs.projects.repair_task import describe, gold_span, grading_limit_s
from envs.projects.run_mutant import has_one_function
from envs.projects.stable_tests import SUITE_LIMIT_S, FiveRuns, five_runs
from envs.records import Difficulty, HiddenTask, Provenance, RepairTask, Split
from envs.sandbox.fork_server import ForkServer
from envs.source_text import source_lines
from envs.tasks.store import BuiltTask, Files, TaskStore, content_sha
from envs.tasks.visible_tests import function_of, visible_tree

GENERATOR = "import/3"
NUM_BUG_RUNS = 3


@dataclass(frozen=True)
class Imported:
    """What became of an instance: a task before its last gate, or the reason why there is none."""

    instance_id: str
    task: BuiltTask | None
    reject: str = ""


def import_instances(
    instances: Sequence[Instance], *, files: Files, split: Split
) -> Iterator[Imported]:
    """Yield what becomes of each instance, in order.

    Args:
        instances: All of the repository.
        files: Its tree without any bug.
        split: Where all its tasks go.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    named = {test for each in instances for test in (*each.FAIL_TO_PASS, *each.PASS_TO_PASS)}
    ids = {test for test in named if test.partition("::")[0] in files}
    nothing = FiveRuns(green=(), flaky={}, red={}, cpu_s=0.0, wall_s=0.0, ending="exited")
    suite = five_runs(files, ids=ids) if ids else nothing  # of no ids pytest would make all tests
    seen: set[str] = set()
    with ForkServer(preload="pytest") as server:
        for instance in instances:
            try:
                task = _Import(instance, files, suite, server, split).task()
                if task.public.id in seen:
                    raise _RejectError("repeats another instance")
                seen.add(task.public.id)
                yield Imported(instance.instance_id, _with_statement(task, server))
            except _RejectError as reject:
                yield Imported(instance.instance_id, None, str(reject))


class _RejectError(Exception):
    """Why an instance is of no use: 'reason (what in particular)'."""


@dataclass(frozen=True)
class _Import:
    """One instance on its way to a task."""

    instance: Instance
    files: Files
    suite: FiveRuns
    server: ForkServer
    split: Split

    def task(self) -> BuiltTask:
        """Return the task without a statement; raises `_RejectError`."""
        changed = self._changed()
        failing, passing = self._named()
        self._measure(changed, failing=failing, passing=passing)
        return self._assembled(changed, failing=failing, ids=sorted(failing | passing))

    def _changed(self) -> Files:
        try:
            changed = apply_patch(self.files, self.instance.patch)
        except ValueError as error:
            raise _RejectError(f"the patch is of no use (it {error})") from error
        for path in changed:
            if is_test_file(path) or not path.endswith(".py"):
                raise _RejectError(f"the patch changes more than Python sources ({path})")
        if all(self.files[path] == text for path, text in changed.items()):
            raise _RejectError("the patch changes nothing")
        return changed

    def _named(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the tests that should fail and pass; of the latter those that pass here at all."""
        failing = frozenset(self.instance.FAIL_TO_PASS)
        passing = frozenset(self.suite.green).intersection(self.instance.PASS_TO_PASS) - failing
        if not failing or not passing:
            raise _RejectError("FAIL_TO_PASS is empty, or nothing of PASS_TO_PASS passes here")
        if red := sorted(failing.difference(self.suite.green)):
            raise _RejectError(f"FAIL_TO_PASS does not pass five times without the bug ({red[0]})")
        if has_one_function(failing):
            raise _RejectError("one failing test function only, so that none would be hidden")
        if len(failing) > (len(failing) + len(passing)) / 2:
            raise _RejectError("more than half of the named tests fail")
        return failing, passing

    def _measure(self, changed: Files, *, failing: frozenset[str], passing: frozenset[str]) -> None:
        """Check in three runs with the bug that the tests fail, and no others."""
        ids = failing | passing
        for _ in range(NUM_BUG_RUNS):
            run = run_suite(self.server, self.files | changed, ids=ids, limit_s=SUITE_LIMIT_S)
            if not run.complete or any("::" not in test for test in run.messages):
                raise _RejectError("with the bug, collection or the run itself breaks")
            if kept := sorted(failing & run.passed):
                raise _RejectError(f"FAIL_TO_PASS passes with the bug ({kept[0]})")
            if lost := sorted(passing - run.passed):
                raise _RejectError(f"PASS_TO_PASS fails with the bug ({lost[0]})")

    def _assembled(
        self, changed: Files, *, failing: frozenset[str], ids: Sequence[str]
    ) -> BuiltTask:
        name = f"{GENERATOR}:{content_sha(self.files)}:{content_sha(changed)}"
        shown = random.Random(name).choice(sorted({function_of(test) for test in failing}))
        visible = tuple(test for test in ids if function_of(test) == shown)
        workspace = visible_tree(self.files, shown) | changed
        gold = workspace | {path: self.files[path] for path in changed}
        edits = gold_edits(workspace, gold)
        if apply_edits(workspace, edits) != gold:
            raise _RejectError("its reverse is no replacement of lines (odd line ends)")
        task_id = "t_" + hash_text(name)[:12]
        public = RepairTask(
            id=task_id,
            project=self.instance.repo.rpartition("/")[2],
            split=self.split,
            statement=self.instance.problem_statement.strip(),
            workspace_sha=content_sha(workspace),
            editable=tuple(sorted(changed)),
            visible_tests=visible,
            difficulty=Difficulty(
                sites=len(edits),
                files=len(changed),
                lines=sum(len(source_lines(text)) for text in workspace.values()),
                failing_tests=len(failing),
            ),
            provenance=Provenance(
                source="path",
                origin=f"{self.instance.repo}@{self.instance.base_commit or 'unknown'}",
                licence="unknown",
                sha256=content_sha(self.files),
                generator=GENERATOR,
                seed=0,
            ),
        )
        hidden = HiddenTask(
            task_id=task_id,
            grader="pytest",
            fail_to_pass=tuple(test for test in ids if test in failing),
            pass_to_pass=tuple(test for test in ids if test not in failing),
            unseen_tests=tuple(test for test in ids if test not in visible),
            tests_sha=content_sha(self.files),
            operators=("imported",),
            gold_edits=edits,
            gold_patch=gold_patch(workspace, gold),
            gold_spans=tuple(gold_span(workspace[edit.path], edit) for edit in edits),
            limit_s=grading_limit_s(self.suite.cpu_s),
        )
        return BuiltTask(public, hidden, workspace, self.files)


def _with_statement(task: BuiltTask, server: ForkServer) -> BuiltTask:
    """Return the task with a statement: the instance's own, else what a visible test says."""
    said = describe(task, grader=PytestGrader(server, TaskStore.of([task])))
    if not said:
        raise _RejectError("the visible test alone does not show the bug")
    statement = task.public.statement or said
    return replace(task, public=task.public.model_copy(update={"statement": statement}))
