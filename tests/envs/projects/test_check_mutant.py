import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from envs.errors import InfrastructureError
from envs.grading.graders import make_grader
from envs.grading.test_suite import run_suite
from envs.mutation.bug import Bug, combine
from envs.mutation.operators import Mutation
from envs.projects import check_mutant as trial_module
from envs.projects.baseline import baseline
from envs.projects.check_mutant import ONE_REACHES, UNREACHED, OpenTasks, Trial, tried
from envs.projects.lock_file import fetch, read_sdist
from envs.projects.repair_task import candidates
from envs.projects.test_impact import Reach
from envs.projects.verdict_cache import Verdicts
from envs.sandbox.fork_server import ForkServer
from envs.tasks.build_report import DIFFERS, GOLD_FAILS
from envs.tasks.streak import MAX_FAILURES, NO_SANDBOX
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


class Watched:
    """The production grader; notes how many tests each grading expects, and may be told to fail."""

    def __init__(self, grader):
        self._grader, self.sizes, self.gold_fails = grader, [], False

    def grade(self, hidden, files):
        self.sizes.append(len(hidden.fail_to_pass) + len(hidden.pass_to_pass))
        outcome = self._grader.grade(hidden, files)
        spoilt = self.gold_fails and outcome.fail_to_pass_rate == 1.0
        return outcome.model_copy(update={"pass_to_pass_rate": 0.5}) if spoilt else outcome

    def run_visible(self, task, files, selector):
        return self._grader.run_visible(task, files, selector)


@pytest.fixture(scope="module")
def calc(tmp_path_factory):
    files = FILES | {"calc/core.py": CALC + UNUSED}
    entry, cache = project(tmp_path_factory.mktemp("calc"), files)
    tree = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
    with ForkServer(preload="pytest") as server, make_grader(tasks := OpenTasks()) as grader:
        suite = baseline(entry, files=tree, server=server, cache_dir=cache)
        yield Trial(entry, tree, suite, 0, server, grader, tasks, None)


@pytest.fixture
def trial(calc, tmp_path):
    kept = Verdicts(tmp_path / "calc.jsonl", files=calc.files, green=calc.suite.green)
    return replace(calc, verdicts=kept, grader=Watched(calc.grader))


def bugs(trial, count=6):
    return candidates(trial.project, files=trial.files, seed=0)[:count]


def changed(trial, *pairs):
    """Return a bug that puts each second text in place of the first."""
    text, found = trial.files["calc/core.py"], []
    for old, new in pairs:
        start = text.index(old)
        line = text.count("\n", 0, start) + 1
        found.append(
            Mutation("change", "calc/core.py", start, start + len(old), new, "total", line)
        )
    return Bug(tuple(found))


def try_all(found, trial, *, workers=2):
    with ThreadPoolExecutor(workers) as pool:
        return list(tried(found, trial=trial, pool=pool, ahead=4))


def failing_in_whole_runs(trial, bug):
    """Return the tests that fail in each of three whole runs."""
    tree = trial.files | bug.apply(trial.files)
    runs = [run_suite(trial.server, tree, ids=trial.suite.green, wall_s=60) for _ in range(3)]
    (found,) = {frozenset(trial.suite.green) - run.passed for run in runs}
    return found


def test_the_verdict_is_that_of_three_whole_runs(trial):
    found = bugs(trial)
    unused = [bug for bug in bugs(trial, None) if bug.mutations[0].function == "unused"][:1]
    done = try_all(found + unused, trial)
    assert [one.bug for one in done] == found + unused
    assert {one.verdict.reject for one in done} >= {None, UNREACHED}
    for one in done:
        failing = failing_in_whole_runs(trial, one.bug)
        if one.verdict.reject is None:
            assert one.verdict.failing == failing == set(one.task.hidden.fail_to_pass)
            assert 2 <= len(failing) <= 6
        elif one.verdict.reject in (UNREACHED, "no test fails"):
            assert failing == set()
        else:
            assert one.verdict.reject in (ONE_REACHES, "one failing test function only")


def test_what_is_known_is_not_run_again(trial, monkeypatch):
    found = bugs(trial)
    before = try_all(found, trial)
    monkeypatch.setattr(trial_module, "probe", None)
    again = replace(trial, grader=None)
    assert try_all(found, again) == before


def test_gold_passes_the_whole_suite_once_and_what_reaches_the_bug_each_time(calc, trial, tmp_path):
    useful = [one.bug for one in try_all(bugs(trial), trial) if one.task]
    kept = Verdicts(tmp_path / "new.jsonl", files=trial.files, green=trial.suite.green)
    fresh = replace(trial, grader=Watched(calc.grader), verdicts=kept)
    try_all(useful, fresh, workers=1)
    reached = [len(trial.suite.reach.tests(bug.mutations)) for bug in useful[1:]]
    assert fresh.grader.sizes == [13, 13, *(size for few in reached for size in (few, 13))]
    assert max(reached) < 13


def test_gold_that_fails_is_no_task_and_is_tried_again_by_the_next_build(trial):
    trial.grader.gold_fails = True
    bug = changed(trial, ("return result", "return result + 1"))
    (one,) = try_all([bug], trial)
    assert (one.verdict.reject, one.task) == (GOLD_FAILS, None)
    trial.grader.gold_fails = False
    (one,) = try_all([bug], trial)
    assert one.verdict.reject is None


def test_tests_that_the_lines_do_not_tell_of_are_found_by_the_whole_suite(trial):
    seen = {test for test in trial.suite.green if "test_clamp" in test}
    trace = dict.fromkeys({"", *trial.suite.green} - seen, "")
    reach = Reach(
        trial.files, paths=["calc/core.py"], green=trial.suite.green, traces=[trace, trace]
    )
    blind = replace(trial, suite=replace(trial.suite, reach=reach))
    bug = changed(
        trial,
        ("return min(max(value, low), high)", "return None"),
        ("max(values) - min(values)", "None"),
    )
    (one,) = try_all([bug], blind)
    assert one.verdict.reject is None
    assert one.verdict.failing == failing_in_whole_runs(trial, bug) > seen


def test_a_bug_that_shows_in_the_third_run_only_is_no_task(trial, monkeypatch):
    bug = changed(trial, ("return result", "return result + 1"))
    honest = trial_module.probe

    def one_less(bug, **asked):
        found = honest(bug, **asked)
        return replace(found, failing=found.failing | {"tests/test_core.py::test_evens"})

    monkeypatch.setattr(trial_module, "probe", one_less)
    (one,) = try_all([bug], trial)
    assert (one.verdict.reject, one.task) == (DIFFERS, None)


def test_a_task_of_several_bugs_says_so_and_gold_mends_all_of_them(trial):
    singles = [one for one in try_all(bugs(trial, 16), trial) if one.task]
    failing = {one.bug.mutations[0]: one.verdict.failing for one in singles}
    combined = combine(failing, rng=random.Random(0), across_files=False)[:3]
    tasks = [one.task for one in try_all(combined, trial) if one.task]
    assert tasks
    for task in tasks:
        assert task.public.difficulty.sites == len(task.hidden.operators) >= 2
        assert len(task.hidden.gold_spans) == len(task.hidden.gold_edits) >= 2


@pytest.mark.parametrize(
    ("new", "named"), [("return 1 // 0", True), ("return 'x'", False)], ids=["raises", "returns"]
)
def test_the_difficulty_says_how_far_the_bug_is_and_whether_it_is_named(trial, new, named):
    (one,) = try_all([changed(trial, ("return result", new))], trial)
    difficulty = one.task.public.difficulty
    assert (difficulty.call_distance, difficulty.traceback_names_function) == (1, named)


@pytest.mark.parametrize("failures", [1, 2], ids=["mends", "stays broken"])
def test_a_bug_on_which_the_sandbox_fails_is_tried_again_then_dropped(trial, monkeypatch, failures):
    found = bugs(trial, 3)
    text = found[1].apply(trial.files)["calc/core.py"]
    monkeypatch.setattr(FailingServer, "marker", text)
    monkeypatch.setattr(FailingServer, "left", failures)
    with FailingServer(preload="pytest") as server:
        rejects = [one.verdict.reject for one in try_all(found, replace(trial, server=server))]
    assert (rejects[1] == NO_SANDBOX) == (failures == 2)
    assert NO_SANDBOX not in [one.verdict.reject for one in try_all(found, trial)]


def test_a_sandbox_that_fails_on_many_in_a_row_ends_the_build(trial, monkeypatch):
    monkeypatch.setattr(FailingServer, "left", 10**6)
    expected = rf"{MAX_FAILURES} times in a row.*no fork"
    with (
        FailingServer(preload="pytest") as server,
        pytest.raises(InfrastructureError, match=expected),
    ):
        try_all(bugs(trial, None), replace(trial, server=server))
