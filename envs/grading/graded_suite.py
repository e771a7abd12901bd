"""Runs the tests of a task with canaries among them, and believes these only where they fit.

    suite = run_graded(server, tree, gold=gold, hidden=hidden, fits=CanaryFits())

A canary that is like a test of the suite (`envs/grading/canaries.py`) moves lines, and in some
suites does what may be done once. So a run that is not as it should be is believed only if the
original files, with the same canaries, do as they should: otherwise it is repeated without. That is
asked of a task once, for which the order of its pairs is kept, unless any run was as it should be;
and whenever such a canary passed.
Tests: tests/envs/grading/test_graded_suite.py.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from envs.grading.canaries import Canaries, draw_canaries, order_like
from envs.grading.pytest_config import read_pytest_config
from envs.grading.test_suite import SuiteRun, run_suite
from envs.records import HiddenTask
from envs.sandbox.fork_server import ForkServer

NUM_CANARIES = 3


@dataclass(frozen=True)
class CanaryFits:
    """What graders know of the tasks that they met: whether canaries like their tests fit.

    Tasks are known by their names and by those tests that pass with the bug, of which all may be
    run or some. `seed` keeps the order of pairs.
    """

    of_tasks: dict[tuple[str, tuple[str, ...]], bool] = field(default_factory=dict)
    seed: str = field(default_factory=secrets.token_hex)


def run_graded(
    server: ForkServer,
    tree: dict[str, str],
    *,
    gold: dict[str, str],
    hidden: HiddenTask,
    fits: CanaryFits,
) -> SuiteRun:
    """Run the hidden tests of a task on a tree.

    Args:
        server: A fork-server with pytest preloaded.
        tree: The suite with the submitted files.
        gold: The same with the original files.
        hidden: The task.
        fits: What is known of canaries; it is added to.

    Raises:
        InfrastructureError: The sandbox failed, not the tests.
    """
    ids = [*hidden.fail_to_pass, *hidden.pass_to_pass]

    def run(files: dict[str, str], canaries: Canaries) -> SuiteRun:
        return run_suite(server, files, ids=ids, limit_s=hidden.limit_s, canaries=canaries)

    key = (hidden.task_id, hidden.pass_to_pass)
    fit = fits.of_tasks.get(key)
    known = {path: text for path, text in tree.items() if gold.get(path) == text}
    canaries = draw_for(known, hidden, alike=fit is not False, seed=fits.seed)
    suite = run(tree, canaries)
    if not canaries.renamed or suite.ending == "forged":
        return suite
    if is_clean(suite, ids):
        fits.of_tasks[key] = True
        return suite
    if not suite.forged and (fit or not _may_be_their_doing(suite, hidden, canaries)):
        return suite
    fits.of_tasks[key] = fit = is_clean(run(gold, canaries), ids)
    if fit:
        return suite
    return run(tree, draw_for(known, hidden, alike=False, seed=fits.seed))


def draw_for(tree: Mapping[str, str], hidden: HiddenTask, *, alike: bool, seed: str) -> Canaries:
    """Return canaries for a task, those like its tests if it may have such.

    `tree` is without the files that were submitted: what a canary is made of is not a candidate's.
    """
    return draw_canaries(
        tree,
        [*hidden.fail_to_pass, *hidden.pass_to_pass],
        count=NUM_CANARIES,
        like=order_like(hidden.fail_to_pass, hidden.pass_to_pass) if alike else (),
        patterns=read_pytest_config(tree).functions,
        seed=f"{seed} {hidden.task_id}",
    )


def is_credited(suite: SuiteRun) -> bool:
    """Tell whether a run came to its end and its canaries did as they must."""
    return suite.complete and suite.num_canaries_failed == NUM_CANARIES


def is_clean(suite: SuiteRun, ids: list[str]) -> bool:
    """Tell whether all tests pass and no canary does."""
    return is_credited(suite) and not suite.forged and suite.passed.issuperset(ids)


def _may_be_their_doing(suite: SuiteRun, hidden: HiddenTask, canaries: Canaries) -> bool:
    """Tell whether canaries may be why tests fail: not where none stands."""
    failing = [test_id for test_id in hidden.fail_to_pass if test_id not in suite.passed]
    is_better = len(failing) < len(hidden.fail_to_pass)
    return is_better or all(test_id.partition("::")[0] in canaries.files for test_id in failing)
