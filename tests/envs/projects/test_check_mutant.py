import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from envs.errors import InfrastructureError
from envs.grading.graders import PytestGrader
from envs.grading.test_suite import list_suite, run_suite
from envs.mutation.bug import Bug, Symptoms, combine
from envs.mutation.operators import Mutation
from envs.projects import check_mutant as check_module
from envs.projects.baseline import measure_baseline
from envs.projects.check_mutant import ENTANGLED, MutantCheck
from envs.projects.lock_file import fetch, read_sdist
from envs.projects.record_calls import record_calls
from envs.projects.repair_task import list_candidates
from envs.projects.test_impact import TestImpact
from envs.projects.verdict_cache import Verdicts
from envs.sandbox.fork_server import ForkServer
from envs.tasks.build_report import DIFFERS, GOLD_FAILS, NO_SANDBOX, ONE_REACHES, UNREACHED
from envs.tasks.parallel import MAX_FAILURES, NUM_TRIES
from envs.tasks.store import TaskStore
from envs.tasks.unshown import UNSHOWN
from envs.tasks.validate import apply_gold, score
from envs.tasks.visible_tests import parse_test_id
from tests.envs.projects.small_project import CALC, FILES, project

UNUSED = "\n\ndef unused(value):\n    return value + 1\n"


class FailingServer(ForkServer):
    """A fork-server that fails on trees that hold a certain text, as often as it is told to."""

    marker, left = "", 0

    def run(self, request, *, wall_s):
        if FailingServer.left and any(self.marker in text for text in request["files"].values()):
            FailingServer.left -= 1
            raise InfrastructureError("no fork")
        return super().run(request, wall_s=wall_s)


class WatchedGrader(PytestGrader):
    """The production grader; notes how many tests each grading expects, and may have gold fail."""

    sizes, gold_fails = [], False

    def grade(self, hidden, files):
        WatchedGrader.sizes.append(len(hidden.fail_to_pass) + len(hidden.pass_to_pass))
        outcome = super().grade(hidden, files)
        spoilt = self.gold_fails and outcome.fail_to_pass_rate == 1.0
        return outcome.model_copy(update={"pass_to_pass_rate": 0.5}) if spoilt else outcome


@pytest.fixture(scope="module")
def calc(tmp_path_factory):
    files = FILES | {"calc/core.py": CALC + UNUSED}
    entry, cache = project(tmp_path_factory.mktemp("calc"), files)
    tree = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
    with ForkServer(preload="pytest") as server:
        suite = measure_baseline(entry, files=tree, server=server, cache_dir=cache)
        recording = record_calls(
            tree,
            tests=suite.stable_tests,
            suite=list_suite(tree, entry.suite),
            limit_s=10,
            server=server,
            path=cache / "calls.json",
        )
        yield MutantCheck(entry, tree, suite, 0, server, None, recording)


@pytest.fixture
def check(calc, tmp_path, monkeypatch):
    monkeypatch.setattr(check_module, "PytestGrader", WatchedGrader)
    monkeypatch.setattr(WatchedGrader, "sizes", [])
    monkeypatch.setattr(WatchedGrader, "gold_fails", False)
    return replace(calc, verdicts=verdicts_of(calc, tmp_path / "calc.jsonl"))


def verdicts_of(check, path):
    return Verdicts(path, files=check.files, stable_tests=check.suite.stable_tests)


def bugs(check, count=6):
    return list_candidates(check.project, files=check.files, seed=0)[:count]


def changed(check, *pairs):
    """Return a bug that puts each second text in place of the first."""
    text, found = check.files["calc/core.py"], []
    for old, new in pairs:
        start = text.index(old)
        line = text.count("\n", 0, start) + 1
        found.append(
            Mutation("change", "calc/core.py", start, start + len(old), new, "total", line)
        )
    return Bug(tuple(found))


def functions_of(tests):
    return frozenset(map(parse_test_id, tests))


def try_all(found, check, *, workers=2):
    with ThreadPoolExecutor(workers) as pool:
        return list(check.run_all(found, pool=pool, ahead=lambda: 4))


def failing_in_whole_runs(check, bug):
    """Return the tests that fail in each of three whole runs."""
    tree = check.files | bug.apply(check.files)
    runs = [
        run_suite(check.server, tree, ids=check.suite.stable_tests, wall_s=60) for _ in range(3)
    ]
    (found,) = {frozenset(check.suite.stable_tests) - run.passed for run in runs}
    return found


def test_the_verdict_is_that_of_three_whole_runs(check):
    found = bugs(check)
    unused = [bug for bug in bugs(check, None) if bug.mutations[0].function == "unused"][:1]
    done = try_all(found + unused, check)
    assert [one.bug for one in done] == found + unused
    assert {one.verdict.reject for one in done} >= {None, UNREACHED}
    for one in done:
        failing = failing_in_whole_runs(check, one.bug)
        if one.verdict.reject is None:
            assert one.verdict.failing == failing == set(one.task.hidden.fail_to_pass)
            assert 2 <= len(failing) <= 6
        elif one.verdict.reject in (UNREACHED, "no test fails"):
            assert failing == set()
        else:
            assert one.verdict.reject in (ONE_REACHES, "one failing test function only")


def test_what_is_known_is_not_run_again(check, monkeypatch):
    found = bugs(check)
    before = try_all(found, check)
    for name in ("run_mutant", "PytestGrader"):
        monkeypatch.setattr(check_module, name, None)
    assert try_all(found, check) == before


def test_gold_passes_the_whole_suite_once_and_what_reaches_the_bug_each_time(check, tmp_path):
    useful = [one.bug for one in try_all(bugs(check), check) if one.task]
    WatchedGrader.sizes.clear()
    fresh = replace(check, verdicts=verdicts_of(check, tmp_path / "new.jsonl"))
    try_all(useful, fresh, workers=1)
    reached = [len(check.suite.impact.select_tests(bug.mutations)) for bug in useful]
    twice = [few for few in reached for _ in ("gold", "no-op")]
    assert WatchedGrader.sizes == [13, *twice[1:]]
    assert max(reached) < 13


def test_gold_that_fails_is_no_task_and_is_tried_again_by_the_next_build(check):
    WatchedGrader.gold_fails = True
    bug = changed(check, ("return result", "return result + 1"))
    (one,) = try_all([bug], check)
    assert (one.verdict.reject, one.task) == (GOLD_FAILS, None)
    WatchedGrader.gold_fails = False
    (one,) = try_all([bug], check)
    assert one.verdict.reject is None


def test_a_test_that_the_lines_do_not_tell_of_counts_as_one_that_passes(check):
    seen = {test for test in check.suite.stable_tests if "test_clamp" in test}
    trace = dict.fromkeys({"", *check.suite.stable_tests} - seen, "")
    impact = TestImpact(
        check.files,
        paths=["calc/core.py"],
        stable_tests=check.suite.stable_tests,
        traces=[trace, trace],
    )
    blind = replace(check, suite=replace(check.suite, impact=impact))
    between = CALC.partition("max(values) ")[2].partition("(max(value")[0]
    assert between.startswith("-") and between.endswith("min")
    bug = changed(check, (between, f"+{between[1:-3]}max"))  # both `spread` and `clamp`
    (one,) = try_all([bug], blind)
    failing = failing_in_whole_runs(check, bug)
    assert one.verdict.reject is None
    assert one.verdict.failing == seen < failing
    grader = PytestGrader(check.server, TaskStore.of([one.task]))
    assert score(grader.grade(one.task.hidden, apply_gold(one.task))) == 1.0
    assert score(grader.grade(one.task.hidden, one.task.workspace)) == 0.0


def test_a_bug_that_shows_in_the_third_run_only_is_no_task(check, monkeypatch):
    bug = changed(check, ("return result", "return result + 1"))
    honest = check_module.run_mutant

    def one_less(bug, **asked):
        found = honest(bug, **asked)
        return replace(found, failing=found.failing | {"tests/test_core.py::test_evens"})

    monkeypatch.setattr(check_module, "run_mutant", one_less)
    (one,) = try_all([bug], check)
    assert (one.verdict.reject, one.task) == (DIFFERS, None)


def test_a_task_of_several_bugs_says_so_and_gold_mends_all_of_them(check):
    singles = [one for one in try_all(bugs(check, 16), check) if one.task]
    symptoms = {
        one.bug.mutations[0]: Symptoms(one.verdict.shown[0], functions_of(one.verdict.failing))
        for one in singles
        if one.verdict.case is None
    }
    combined = combine(symptoms, rng=random.Random(0), across_files=False)[:3]
    found = [(one.bug, one.task) for one in try_all(combined, check) if one.task]
    assert found
    for bug, task in found:
        assert task.public.statement.startswith(f"{len(bug.mutations)} separate bugs, ")
        assert task.public.statement.count(" fails:") == len(bug.mutations)
        grader = PytestGrader(check.server, TaskStore.of([task]))
        for mutation in bug.mutations:  # is left when the others are mended
            left = apply_gold(task) | Bug((mutation,)).apply(check.files)
            report = grader.run_visible(task.public, left, "")
            assert functions_of(dict(report.failures)) == {symptoms[mutation].shown}
            assert functions_of(task.hidden.unseen_tests) & symptoms[mutation].failing
        assert task.public.difficulty.sites == len(task.hidden.operators) >= 2
        assert len(task.hidden.gold_spans) == len(task.hidden.gold_edits) >= 2


def test_a_test_that_passes_on_a_near_miss_that_a_hidden_one_fails_is_not_shown(
    check, tmp_path, monkeypatch
):
    body, near = "[value for value in values if value % 2 == 0]", "value % 2 == 0"
    misses = [changed(check, (near, f"{near} and value != 4")).mutations[0]]  # test_evens sees it
    monkeypatch.setattr(check_module, "list_near_misses", lambda *_: misses)
    bug = changed(check, (body, "None"))
    (one,) = try_all([bug], check)
    assert one.verdict.shown == (("tests/test_core.py", "test_evens"),)
    misses.append(changed(check, (near, f"{near} or value == 3")).mutations[0])  # test_no_evens
    (one,) = try_all([bug], replace(check, verdicts=verdicts_of(check, tmp_path / "new.jsonl")))
    assert (one.verdict.reject, one.task) == (UNSHOWN, None)


def test_bugs_that_fail_the_tests_that_show_each_other_are_no_task(check):
    both = changed(check, ("if value > best", "if value < best"), ("return best", "return None"))
    (one,) = try_all([both], check)
    assert (one.verdict.reject, one.task) == (ENTANGLED, None)


@pytest.mark.parametrize(
    ("new", "named"), [("return 1 // 0", True), ("return 'x'", False)], ids=["raises", "returns"]
)
def test_the_difficulty_says_how_far_the_bug_is_and_whether_it_is_named(check, new, named):
    (one,) = try_all([changed(check, ("return result", new))], check)
    difficulty = one.task.public.difficulty
    assert (difficulty.call_distance, difficulty.traceback_names_function) == (1, named)


@pytest.mark.parametrize("failures", [1, NUM_TRIES], ids=["once", "each time"])
def test_a_bug_on_which_the_sandbox_fails_is_tried_again_then_dropped(check, monkeypatch, failures):
    found = bugs(check, 3)
    text = found[1].apply(check.files)["calc/core.py"]
    monkeypatch.setattr(FailingServer, "marker", text)
    monkeypatch.setattr(FailingServer, "left", failures)
    with FailingServer(preload="pytest") as server:
        rejects = [one.verdict.reject for one in try_all(found, replace(check, server=server))]
    assert (rejects[1] == NO_SANDBOX) == (failures == NUM_TRIES)
    assert NO_SANDBOX not in [one.verdict.reject for one in try_all(found, check)]


def test_a_sandbox_that_fails_on_many_in_a_row_ends_the_build(check, monkeypatch):
    monkeypatch.setattr(FailingServer, "left", 10**6)
    expected = rf"{MAX_FAILURES} times in a row.*no fork"
    with (
        FailingServer(preload="pytest") as server,
        pytest.raises(InfrastructureError, match=expected),
    ):
        try_all(bugs(check, None), replace(check, server=server))
