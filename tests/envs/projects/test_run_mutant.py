import time
from dataclasses import replace

import pytest

from envs.grading.test_suite import run_suite
from envs.mutation.bug import Bug
from envs.mutation.operators import Mutation
from envs.projects import baseline as baseline_module
from envs.projects import run_mutant as run_module
from envs.projects.baseline import measure_baseline
from envs.projects.lock_file import fetch, read_sdist
from envs.projects.run_mutant import ONE_FAILS, has_one_function, run_mutant
from envs.projects.verdict_cache import Verdict
from envs.sandbox.fork_server import ForkServer
from envs.tasks.build_report import DIFFERS, TOO_LONG
from tests.envs.projects.small_project import project

GREEN = "tests/test_core.py::test_evens"


@pytest.fixture(scope="module")
def calc(tmp_path_factory):
    entry, cache = project(tmp_path_factory.mktemp("calc"))
    files = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
    with ForkServer(preload="pytest") as server:
        yield {
            "server": server,
            "files": files,
            "suite": measure_baseline(entry, files=files, server=server, cache_dir=cache),
        }


def test_a_suite_is_measured_anew_when_the_code_changes(calc, tmp_path, monkeypatch):
    entry, cache = project(tmp_path)
    measured, honest = [], baseline_module.run_until_green
    monkeypatch.setattr(
        baseline_module, "run_until_green", lambda *a, **k: measured.append(1) or honest(*a, **k)
    )
    for state in ("old", "old", "new"):
        monkeypatch.setattr(baseline_module, "code_key", lambda *_, state=state: state)
        measure_baseline(entry, files=calc["files"], server=calc["server"], cache_dir=cache)
    assert len(measured) == 2


def changed(calc, old, new):
    """Return a bug that puts `new` in place of `old`."""
    text = calc["files"]["calc/core.py"]
    start = text.index(old)
    return Bug((Mutation("change", "calc/core.py", start, start + len(old), new, "f", 1),))


def probed(calc, old, new):
    return run_mutant(changed(calc, old, new), ids=frozenset(calc["suite"].stable_tests), **calc)


def test_a_bug_that_two_test_functions_notice_is_not_ruled_out(calc):
    found = probed(calc, "return result", "return result + 1")
    assert found == Verdict(
        frozenset({"tests/test_core.py::test_total", "tests/test_core.py::test_total_of_one"}), None
    )


@pytest.mark.parametrize(
    ("old", "new", "reject"),
    [
        ("values[0]", "values[-1]", "no test fails"),
        ("value % 2 == 0", "value % 2 == 0 and value != 4", ONE_FAILS),
        ("def total", "import nothing\n\ndef total", "collection or the run itself breaks"),
        ("return result", "__import__('os')._exit(0)", "collection or the run itself breaks"),
    ],
    ids=["survives", "one function", "import", "exit"],
)
def test_what_rules_a_bug_out(calc, old, new, reject):
    assert probed(calc, old, new).reject == reject


def test_a_bug_that_fails_other_tests_the_second_time_is_ruled_out(calc, monkeypatch):
    runs = []

    def run(*arguments, **asked):
        runs.append(run_suite(*arguments, **asked))
        return replace(runs[-1], passed=runs[-1].passed - {GREEN} if runs[1:] else runs[-1].passed)

    monkeypatch.setattr(run_module, "run_suite", run)
    assert probed(calc, "return result", "return result + 1").reject == DIFFERS
    assert len(runs) == 2


def test_a_bug_that_breaks_most_tests_is_ruled_out(calc):
    text = calc["files"]["calc/core.py"]
    start = text.index("def total")
    rest = "total = largest = spread = chunks = clamp = evens = None\n"
    bug = Bug((Mutation("change", "calc/core.py", start, len(text), rest, "f", 1),))
    found = run_mutant(bug, ids=frozenset(calc["suite"].stable_tests), **calc)
    assert found.reject == "more than half of the suite fails"


def test_a_bug_that_hangs_is_stopped_by_its_cpu_time(calc, monkeypatch):
    monkeypatch.setattr(run_module, "MIN_CPU_S", 1)
    monkeypatch.setattr(run_module, "WALL_SHARE", 60)
    found = probed(calc, "result = result + value\n", "while True:\n            pass\n")
    assert (found.reject, found.is_lasting) == (TOO_LONG, True)


def test_the_clock_on_the_wall_does_not_judge_for_good(calc, monkeypatch):
    monkeypatch.setattr(run_module, "MIN_CPU_S", 1)
    monkeypatch.setattr(run_module, "WALL_SHARE", 2)
    monkeypatch.setattr(run_module, "STALL_S", 60)
    found = probed(calc, "result = result + value", "__import__('time').sleep(9)")
    assert (found.reject, found.is_lasting) == (TOO_LONG, False)


@pytest.mark.parametrize(
    "waits",
    ["__import__('threading').Lock().acquire(timeout=-1)", "__import__('time').sleep(60)"],
    ids=["deadlock", "sleep"],
)
def test_a_bug_that_waits_for_ever_is_stopped_within_seconds(calc, monkeypatch, waits):
    monkeypatch.setattr(run_module, "STALL_S", 2)
    lock = "lock = __import__('threading').Lock(); lock.acquire()"
    new = f"{lock}; lock.acquire()" if "Lock" in waits else waits
    start = time.monotonic()
    found = probed(calc, "result = result + value", new)
    assert (found.reject, found.is_lasting) == (TOO_LONG, True)
    assert time.monotonic() - start < run_module.MIN_CPU_S * run_module.WALL_SHARE / 2


def test_what_computes_is_not_taken_for_what_waits(calc):
    text = "import time\n\ndef test_busy():\n    while time.process_time() < 2.5:\n        pass\n"
    tree = {"test_busy.py": text}
    run = run_suite(calc["server"], tree, ids=["test_busy.py::test_busy"], wall_s=60, stall_s=1)
    assert (run.stalled, len(run.passed)) == (False, 1)


def test_a_test_that_several_files_inherit_is_one_function():
    inherited = ["tests/test_a.py::TestA::test_len[1]", "tests/test_b.py::TestB::test_len"]
    assert has_one_function(inherited)
    assert not has_one_function([*inherited, "tests/test_a.py::test_size"])
