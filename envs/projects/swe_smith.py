"""Makes tasks of SWE-smith-style instances, each checked as if nobody had checked it before.

An instance is JSON with `instance_id`, `repo`, `patch` (the bug: gold is its reverse) and the lists
FAIL_TO_PASS and PASS_TO_PASS (or JSON texts of lists); `problem_statement` and `base_commit` may be
there. Its claims are measured: the tests that it names must pass in five runs without the bug, and
three runs with it must fail those of FAIL_TO_PASS and no others. PASS_TO_PASS tests that do not
pass here at all are left out. What then becomes a task passes the same last gate as those of the
`projects` source (`envs/tasks/validate.py`).

Not covered: bugs that add or remove files, and repositories whose tests need packages that the
sandbox lacks; their instances are rejected with the reason.
"""

import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from envs.errors import UserError
from envs.grading.graders import PytestGrader
from envs.grading.test_suite import is_test_file, run_suite
from envs.mutation.patches import apply_edits, apply_patch, make_edits
from envs.plain_text import plain_data
from envs.projects.baseline import SUITE_LIMIT_S, FiveRuns, run_five_times
from envs.projects.repair_task import ShownBug, choose_limit_s, name_bug, name_task
from envs.projects.run_mutant import has_one_function
from envs.projects.source_files import decode_files, read_folder
from envs.records import Provenance, Split
from envs.sandbox.fork_server import ForkServer
from envs.tasks.assemble import TaskFacts, assemble
from envs.tasks.build_report import NO_SANDBOX, UNSTEADY
from envs.tasks.parallel import run_in_order
from envs.tasks.store import BuiltTask, Files, TaskStore, hash_tree
from envs.tasks.validate import check_task
from envs.tasks.visible_tests import parse_test_id

GENERATOR = "import/3"
NUM_BUG_RUNS = 3
MAX_TREE_BYTES = 16 * 2**20  # of all files together, which every run writes anew
_NOT_SOURCE = {"build", "dist", "env", "venv"}


def _listed(value: Any) -> Any:
    try:
        return plain_data(json.loads(value)) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError("nested too deep") from None


TestIds = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Instance(BaseModel):
    """What is read of an instance; other fields are ignored."""

    instance_id: str
    repo: str
    patch: str
    FAIL_TO_PASS: TestIds
    PASS_TO_PASS: TestIds
    problem_statement: str = ""
    base_commit: str = ""


def read_instances(path: Path) -> list[Instance]:
    """Return the instances in a file: one JSON object, a list of them, or one on each line.

    Raises:
        UserError: It cannot be read, an instance lacks a field, or several repositories are named.
    """
    try:
        text = path.read_text("utf-8-sig")
        try:
            data = json.loads(text)
        except json.JSONDecodeError:
            data = [json.loads(line) for line in text.split("\n") if line.strip()]
        data = plain_data(data, depth=4)
        found = [
            Instance.model_validate(each) for each in (data if isinstance(data, list) else [data])
        ]
    except (OSError, ValueError, RecursionError) as error:
        got, remedy = (
            str(error),
            "give SWE-smith-style JSON, with the fields named in docs/tasks.md",
        )
        if isinstance(error, ValidationError):
            got = "{loc}: {msg}".format(**error.errors()[0])
        raise UserError(
            f"{path} holds no usable instances", got=got[:200], remedy=remedy
        ) from error
    repositories = sorted({each.repo for each in found})
    if len(repositories) != 1:
        raise UserError(
            f"{path} must hold instances of one repository",
            got=", ".join(repositories) or "none",
            remedy="write a file for each repository and import them one by one",
        )
    return found


def read_repository(folder: Path) -> Files:
    """Return the Python files of a folder, and small text files in folders that hold some.

    What a build leaves behind is left out, as is what `read_folder` does not read.

    Raises:
        UserError: There is no Python file, too much, or something that may not be read.
    """
    found = {
        path: data
        for path, data in read_folder(folder).items()
        if _NOT_SOURCE.isdisjoint(path.split("/"))
    }
    tops = {path.partition("/")[0] for path in found if path.endswith(".py")}
    files = decode_files(  # a test that reads what is no text fails, and is then left out
        {
            path: data
            for path, data in found.items()
            if path.partition("/")[0] in tops and b"\0" not in data
        }
    )
    size = sum(map(len, files.values()))
    if not tops or size > MAX_TREE_BYTES:
        got = f"{folder}: {size:,} bytes" if tops else f"no Python file in {folder}"
        remedy = "name the folder of a Python project, checked out at the instances' base_commit"
        raise UserError("the folder holds no project of usual size", got=got, remedy=remedy)
    return files


@dataclass(frozen=True)
class Imported:
    """What became of an instance: a task that counts, or the reason why there is none."""

    instance_id: str
    task: BuiltTask | None
    reject: str = ""


def import_instances(
    instances: Sequence[Instance], *, files: Files, split: Split, workers: int = 2
) -> Iterator[Imported]:
    """Yield what becomes of each instance, in order.

    Args:
        instances: All of the repository.
        files: Its tree without any bug.
        split: Where all its tasks go.
        workers: Sandboxed runs under way at once.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    named = {test for each in instances for test in (*each.FAIL_TO_PASS, *each.PASS_TO_PASS)}
    ids = {test for test in named if test.partition("::")[0] in files}
    suite = run_five_times(files, ids=ids) if ids else FiveRuns()  # pytest would make all of none
    seen: set[str] = set()
    with ForkServer(preload="pytest") as server, ThreadPoolExecutor(workers) as pool:
        for found in run_in_order(
            partial(_import, files=files, suite=suite, server=server, split=split),
            instances,
            on_failure=lambda instance, _: Imported(instance.instance_id, None, NO_SANDBOX),
            pool=pool,
            ahead=2 * workers,
        ):
            if found.task is not None and found.task.public.id in seen:
                yield Imported(found.instance_id, None, "repeats another instance")
                continue
            if found.task is not None:
                seen.add(found.task.public.id)
            yield found


class _RejectError(Exception):
    """Why an instance becomes no task: 'reason (what in particular)'."""


def _import(
    instance: Instance, *, files: Files, suite: FiveRuns, server: ForkServer, split: Split
) -> Imported:
    try:
        changed = _apply_bug(instance, files)
        failing, passing = _select_tests(instance, suite)
        _check_claims(files | changed, server, failing=failing, passing=passing)
        provenance = Provenance(
            source="path",
            origin=f"{instance.repo}@{instance.base_commit or 'unknown'}",
            licence="unknown",
            sha256=hash_tree(files),
            generator=GENERATOR,
            seed=0,
        )
        name, tests = name_bug(provenance, changed), sorted(failing | passing)
        shown = random.Random(name).choice(sorted({parse_test_id(test) for test in failing}))
        bug = ShownBug.of(files, changed, tests=tests, shown=[shown])
        if apply_edits(bug.workspace, make_edits(bug.workspace, bug.repaired)) != bug.repaired:
            raise _RejectError("its reverse is no replacement of lines (odd line ends)")
        statement, objection = bug.describe(failing, server=server)
        if objection and not (objection == UNSTEADY and instance.problem_statement.strip()):
            raise _RejectError(objection)
    except _RejectError as reject:
        return Imported(instance.instance_id, None, str(reject))
    task = assemble(
        TaskFacts(
            **bug._asdict(),
            task_id=name_task(name),
            project=instance.repo.rpartition("/")[2],
            split=split,
            provenance=provenance,
            statement=instance.problem_statement.strip() or statement,
            tests=tests,
            failing=failing,
            operators=("imported",),
            limit_s=choose_limit_s(suite.cpu_s),
            pristine=files,
        )
    )
    check = check_task(task, grader=PytestGrader(server, TaskStore.of([task])))
    return Imported(instance.instance_id, None if check.reject else task, check.reject or "")


def _apply_bug(instance: Instance, files: Files) -> Files:
    try:
        changed = apply_patch(files, instance.patch)
    except ValueError as error:
        raise _RejectError(f"the patch cannot be used (it {error})") from error
    for path in changed:
        if is_test_file(path) or not path.endswith(".py"):
            raise _RejectError(f"the patch changes more than Python sources ({path})")
    if all(files[path] == text for path, text in changed.items()):
        raise _RejectError("the patch changes nothing")
    return changed


def _select_tests(instance: Instance, suite: FiveRuns) -> tuple[frozenset[str], frozenset[str]]:
    """Return the tests that should fail and pass; of the latter those that pass here at all."""
    failing, stable = frozenset(instance.FAIL_TO_PASS), frozenset(suite.stable_tests)
    passing = stable.intersection(instance.PASS_TO_PASS) - failing
    if not failing or not passing:
        raise _RejectError("FAIL_TO_PASS is empty, or nothing of PASS_TO_PASS passes here")
    if red := sorted(failing - stable):
        raise _RejectError(f"FAIL_TO_PASS does not pass five times without the bug ({red[0]})")
    if has_one_function(failing):
        raise _RejectError("one failing test function only, so that none would be hidden")
    if len(failing) > (len(failing) + len(passing)) / 2:
        raise _RejectError("more than half of the named tests fail")
    return failing, passing


def _check_claims(
    tree: Files, server: ForkServer, *, failing: frozenset[str], passing: frozenset[str]
) -> None:
    """Check in three runs with the bug that the tests fail, and no others."""
    for _ in range(NUM_BUG_RUNS):
        run = run_suite(server, tree, ids=failing | passing, limit_s=SUITE_LIMIT_S)
        if not run.complete or any("::" not in test for test in run.messages):
            raise _RejectError("with the bug, collection or the run itself breaks")
        if kept := sorted(failing & run.passed):
            raise _RejectError(f"FAIL_TO_PASS passes with the bug ({kept[0]})")
        if lost := sorted(passing - run.passed):
            raise _RejectError(f"PASS_TO_PASS fails with the bug ({lost[0]})")
