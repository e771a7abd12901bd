from dataclasses import replace

import pytest

from envs.errors import InfrastructureError
from envs.forkserver import ForkServer
from envs.suite import run_suite
from envs.tasks import probe as probe_module
from envs.tasks.baseline import baseline
from envs.tasks.mutants import Candidate, candidates
from envs.tasks.mutate import Mutation
from envs.tasks.probe import TOO_LONG, UNREACHED, probe
from envs.tasks.projects import fetch, read_sdist
from envs.tasks.reach import Reach
from envs.tasks.streak import MAX_FAILURES, NO_SANDBOX
from envs.tasks.verdicts import Verdicts
from tests.envs.tasks.small_project import CALC, FILES, project

UNUSED = "\n\ndef unused(value):\n    return value + 1\n"


class FailingServer(ForkServer):
    """A fork-server that fails on trees that hold a certain text, as often as it is told to."""

    marker, left = "", 0

    def run(self, request, *, wall_s):
        if FailingServer.left and any(self.marker in text for text in request["files"].values()):
            FailingServer.left -= 1
            raise InfrastructureError("no fork")
        return super().run(request, wall_s=wall_s)


@pytest.fixture(scope="module")
def calc(tmp_path_factory):
    files = FILES | {"calc/core.py": CALC + UNUSED}
    entry, cache = project(tmp_path_factory.mktemp("calc"), files)
    tree = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
    with ForkServer(preload="pytest") as server:
        suite = baseline(entry, files=tree, server=server, cache_dir=cache)
        yield tree, suite, candidates(entry, files=tree, seed=0), server


@pytest.fixture
def tried(calc, tmp_path):
    files, suite, _, server = calc

    def run(found, *, server=server, suite=suite):
        kept = Verdicts(tmp_path / "calc.jsonl", files=files, green=suite.green)
        return list(probe(found, server=server, files=files, suite=suite, verdicts=kept, workers=2))

    return run


def failing_in_whole_runs(calc, candidate):
    """Return the tests that fail in each of three whole runs, or None if these differ."""
    files, suite, _, server = calc
    tree = files | {candidate.mutation.path: candidate.text}
    runs = [run_suite(server, tree, ids=suite.green, wall_s=60) for _ in range(3)]
    found = {frozenset(suite.green) - run.passed for run in runs}
    return found.pop() if len(found) == 1 and runs[0].complete else None


def test_the_verdict_is_that_of_three_whole_runs(calc, tried):
    found = calc[2][:6] + [one for one in calc[2] if one.mutation.function == "unused"][:1]
    probed = tried(found)
    assert [one.candidate for one in probed] == found
    assert {one.reject for one in probed} >= {None, UNREACHED}
    for one in probed:
        failing = failing_in_whole_runs(calc, one.candidate)
        if one.reject is None:
            assert one.failing == failing
            assert 1 <= len(failing) <= 6
        elif one.reject in (UNREACHED, "no test fails"):
            assert failing == set()


def changed(calc, old, new):
    text = calc[0]["calc/core.py"]
    start = text.index(old)
    mutation = Mutation("change", "calc/core.py", start, start + len(old), new, "total", 0)
    return Candidate(mutation, text.replace(old, new, 1))


def test_a_bug_that_hangs_is_stopped_by_its_cpu_time_and_not_tried_again(calc, tried, monkeypatch):
    monkeypatch.setattr(probe_module, "MIN_CPU_S", 1)
    monkeypatch.setattr(probe_module, "WALL_SHARE", 60)
    hanging = changed(calc, "result = result + value\n", "while True:\n            pass\n")
    (first,) = tried([hanging])
    assert first.reject == TOO_LONG
    monkeypatch.setattr(probe_module, "run_suite", None)
    assert tried([hanging]) == [first]


def test_what_waits_without_computing_is_tried_again_by_the_next_build(calc, tried, monkeypatch):
    monkeypatch.setattr(probe_module, "MIN_CPU_S", 1)
    monkeypatch.setattr(probe_module, "WALL_SHARE", 2)
    waiting = changed(calc, "result = result + value", "__import__('time').sleep(9)")
    assert tried([waiting])[0].reject == TOO_LONG
    monkeypatch.setattr(probe_module, "run_suite", None)
    with pytest.raises(TypeError):
        tried([waiting])


def test_a_failing_test_that_the_lines_do_not_tell_of_is_found_by_the_whole_runs(calc, tried):
    files, suite, *_ = calc
    seen = {test for test in suite.green if "test_clamp" in test}
    trace = dict.fromkeys({"", *suite.green} - seen, "")
    reach = Reach(files, paths=["calc/core.py"], green=suite.green, traces=[trace])
    bug = changed(calc, "return min(max(value, low), high)", "return None")
    bug = replace(bug, text=bug.text.replace("max(values) - min(values)", "None"))
    (probed,) = tried([bug], suite=replace(suite, reach=reach))
    assert probed.reject is None
    assert probed.failing == failing_in_whole_runs(calc, bug) > seen


@pytest.mark.parametrize("failures", [1, 2], ids=["mends", "stays broken"])
def test_a_bug_on_which_the_sandbox_fails_is_tried_again_then_dropped(
    calc, tried, monkeypatch, failures
):
    monkeypatch.setattr(probe_module, "ForkServer", FailingServer)
    found = calc[2][:3]
    monkeypatch.setattr(FailingServer, "marker", found[1].text)
    monkeypatch.setattr(FailingServer, "left", failures)
    with FailingServer(preload="pytest") as server:
        rejects = [one.reject for one in tried(found, server=server)]
    assert (NO_SANDBOX in rejects) == (failures == 2)
    assert rejects[1] != NO_SANDBOX or failures == 2
    assert NO_SANDBOX not in [one.reject for one in tried(found)]


def test_a_sandbox_that_fails_on_many_in_a_row_ends_the_build(calc, tried, monkeypatch):
    monkeypatch.setattr(probe_module, "ForkServer", FailingServer)
    monkeypatch.setattr(FailingServer, "left", 10**6)
    expected = rf"{MAX_FAILURES} times in a row.*no fork"
    with (
        FailingServer(preload="pytest") as server,
        pytest.raises(InfrastructureError, match=expected),
    ):
        tried(calc[2], server=server)
