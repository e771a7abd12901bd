"""Both graders: gold and no-op, exact types, time limits, visible reports, a broken sandbox."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import InfrastructureError
from envs.grading.graders import IoGrader, PytestGrader, apply_submission, make_grader
from envs.grading.test_suite import _read_suite, run_suite
from envs.sandbox.encoding import encode_value, is_equal
from envs.sandbox.fork_server import ForkServer, RunReport
from envs.sandbox.levels import probe
from tests.envs.small_tasks import (
    BROKEN,
    FIXED,
    TESTS,
    case,
    io_task,
    is_solved,
    pytest_task,
    repair_task,
    store_of,
)

TASKS = {"io": io_task(), "pytest": pytest_task()}
KINDS = pytest.mark.parametrize("kind", list(TASKS))


@pytest.fixture(scope="module")
def grader():
    with make_grader(store_of(*TASKS.values())) as grader:
        yield grader


def submit(grader, kind, text, **others):
    task = TASKS[kind]
    return grader.grade(task.hidden, {**task.workspace, "calc.py": text, **others})


@KINDS
def test_gold_scores_one_and_noop_zero(grader, kind):
    gold, noop = submit(grader, kind, FIXED), submit(grader, kind, BROKEN)
    assert is_solved(gold)
    assert (noop.fail_to_pass_rate, noop.pass_to_pass_rate) == (0.0, 1.0)
    assert gold.sandbox_level == noop.sandbox_level == probe().level


@KINDS
def test_rates_count_each_hidden_test(grader, kind):
    partly = FIXED.replace("sum(values)", "sum(values) if values else 9")
    worse = FIXED.replace("values[0]", "values[-1]")
    assert 0 < submit(grader, kind, partly).fail_to_pass_rate < 1
    assert submit(grader, kind, worse).fail_to_pass_rate == 1
    assert submit(grader, kind, worse).pass_to_pass_rate < 1


@KINDS
@pytest.mark.parametrize("text", ["", "def total(:", "import nowhere\n", "1 / 0\n", "\ud800"])
def test_broken_source_is_a_failed_repair_not_a_failed_sandbox(grader, kind, text):
    outcome = submit(grader, kind, text)
    assert outcome.unscorable is None
    assert outcome.fail_to_pass_rate == 0.0


@KINDS
def test_a_deleted_file_is_a_failed_repair(grader, kind):
    outcome = grader.grade(TASKS[kind].hidden, {})
    assert outcome.unscorable is None
    assert outcome.fail_to_pass_rate == 0.0


@KINDS
def test_only_editable_files_count(grader, kind):
    helper = {"aid.py": "def total(values):\n    return sum(values)\n"}
    text = f"from aid import total\n\n\n{FIXED[FIXED.index('def first') :]}"
    assert submit(grader, kind, text, **helper).fail_to_pass_rate == 0.0


def test_a_submission_changes_editable_paths_only():
    tree = {"a.py": "1", "b.py": "2"}
    files = {"a.py": "9", "b.py": "9", "conftest.py": "9"}
    assert apply_submission(tree, ("a.py",), files) == {"a.py": "9", "b.py": "2"}
    assert apply_submission(tree, ("a.py",), {}) == {"b.py": "2"}


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("True", 1),
        ("1.0", 1),
        ("'1'", 1),
        ("(1,)", [1]),
        ("{1: 2}.keys()", [1]),
        ("[1, True]", [1, 1]),
        ("type('I', (int,), {})(1)", 1),
        ("[type('S', (str,), {})('a')]", ["a"]),
        ("float('nan')", 1.0),
        ("object()", None),
        ("10 ** 9999", 1),
        ("exec('x = []; x.append(x)', d := {}) or d['x']", []),
    ],
)
def test_io_answers_are_compared_by_exact_type(returned, expected):
    task = io_task({"calc.py": f"def total(values):\n    return {returned}\n"})
    hidden = task.hidden.model_copy(
        update={"cases": (case("h0", "calc:total", [], expected),), "fail_to_pass": ("h0",)}
    )
    with make_grader(store_of(task)) as grader:
        assert grader.grade(hidden, task.workspace).fail_to_pass_rate == 0.0


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_plain_values_encode_equal_only_if_they_are_equal(left, right):
    assert is_equal(encode_value(left), encode_value(left))
    if is_equal(encode_value(left), encode_value(right)):
        assert left == right
        assert type(left) is type(right)


def test_what_is_not_plain_equals_not_even_itself():
    for value in (float("nan"), [object()], {1: {2: range(3)}}, type("I", (int,), {})(3)):
        assert encode_value(value).startswith("!type")
        assert not is_equal(encode_value(value), encode_value(value))


def test_no_answer_is_sent_to_the_candidate():
    task = io_task()
    hidden = task.hidden.model_copy(
        update={"cases": (case("secretid", "calc:first", ["in"], "the-secret-answer"),)}
    )
    looked_for = [list(word.encode()) for word in ("calc:first", "secretid", "the-secret-answer")]
    spy = f"""\
import gc, sys

def first(values):
    frame, seen = sys._getframe(), []
    while frame:
        seen.append(repr(frame.f_locals))
        frame = frame.f_back
    seen += [repr(thing) for thing in gc.get_objects() if type(thing) in (dict, list, tuple)]
    text = "".join(seen)
    return [bytes(word).decode() in text for word in {looked_for}]
"""
    with ForkServer(preload="io") as server:
        grader = IoGrader(server, store_of(task))
        results = grader._call(task.public, {"calc.py": spy}, hidden.cases, limit_s=20)
    assert results["secretid"][0] == "[True, False, False]"


def test_one_hanging_call_does_not_eat_the_others(grader):
    hang = FIXED.replace("    return sum", "    while not values:\n        pass\n    return sum")
    outcome = submit(grader, "io", hang)
    assert (outcome.fail_to_pass_rate, outcome.pass_to_pass_rate) == (0.5, 1.0)


@KINDS
def test_time_up_is_a_failed_repair(kind):
    make = {"io": io_task, "pytest": pytest_task}[kind]
    task = make(limit_s=1.0)
    with make_grader(store_of(task)) as grader:
        outcome = grader.grade(task.hidden, {"calc.py": "import time\ntime.sleep(60)\n"})
    assert outcome.unscorable is None
    assert outcome.fail_to_pass_rate == 0.0


@KINDS
def test_a_broken_sandbox_is_unscorable_not_zero(kind):
    task = TASKS[kind]
    server = ForkServer(preload=kind)
    server.close()
    grader = {"io": IoGrader, "pytest": PytestGrader}[kind](server, store_of(task))
    with pytest.raises(InfrastructureError, match="closed"):
        grader.grade(task.hidden, task.workspace)
    with pytest.raises(InfrastructureError, match="closed"):
        grader.run_visible(task.public, task.workspace, "")


def test_io_report_says_what_was_called_and_came_back(grader):
    task = TASKS["io"]
    told = {
        BROKEN: "calc.py: total([2, 2]) returned 5, expected 4",
        "def total(values):\n    return values / 0\n": "calc.py: total([2, 2]) raised TypeError: "
        "unsupported operand type(s) for /: 'list' and 'int'",
        "import os\nos._exit(0)\n": "calc.py: total([2, 2]) gave no result",
        "total = object\n": "calc.py: total([2, 2]) raised TypeError: object() takes no arguments",
        "total = iter\n": "calc.py: total([2, 2]) returned list_iterator, expected 4",
    }
    for text, message in told.items():
        report = grader.run_visible(task.public, {**task.workspace, "calc.py": text}, "")
        assert report.failures == (("v0", message),)
    assert grader.run_visible(task.public, {"calc.py": FIXED}, "").num_passed == 1
    assert grader.run_visible(task.public, {"calc.py": FIXED}, "nothing").num_passed == 0


def test_pytest_report_says_where_and_why(grader):
    task = TASKS["pytest"]
    report = grader.run_visible(task.public, task.workspace, "")
    ((test_id, message),) = report.failures
    assert test_id == "tests/test_seen.py::test_total"
    assert "tests/test_seen.py:4" in message
    assert "assert 4 == 3" in message
    assert len(message) <= 300
    fixed = {**task.workspace, "calc.py": FIXED}
    assert grader.run_visible(task.public, fixed, "").num_passed == 1
    broken = {**task.workspace, "calc.py": "def total(:\n"}
    assert "SyntaxError" in grader.run_visible(task.public, broken, "").failures[0][1]


def test_the_visible_test_file_cannot_be_edited(grader):
    task = TASKS["pytest"]
    weak = {**task.workspace, "tests/test_seen.py": "def test_total():\n    pass\n"}
    assert grader.run_visible(task.public, weak, "").num_passed == 0


def test_skipped_and_expected_failures_are_not_passes():
    tests = (
        f"{TESTS}\n@pytest.mark.skip\ndef test_s(): pass\n@pytest.mark.xfail\ndef test_x(): pass\n"
    )
    tests += "@pytest.fixture\ndef late():\n    yield\n    assert 0\ndef test_t(late): pass\n"
    with ForkServer(preload="pytest") as server:
        tree = {"calc.py": FIXED, "tests/test_calc.py": tests}
        run = run_suite(server, tree, ids=None, wall_s=30)
        names = {test_id.rpartition("::")[2] for test_id in run.passed}
        assert names == {"test_first", *(f"test_total[values{index}]" for index in range(3))}
        again = run_suite(server, tree, ids=None, wall_s=30, shuffle=random.Random(1))
    assert again.passed == run.passed


def test_a_pristine_conftest_is_used():
    conftest = "import pytest\n@pytest.fixture\ndef seven():\n    return 7\n"
    tree = {
        "tests/conftest.py": conftest,
        "tests/test_a.py": "def test_a(seven): assert seven == 7\n",
    }
    with ForkServer(preload="pytest") as server:
        assert run_suite(server, tree, ids=None, wall_s=30).passed == {"tests/test_a.py::test_a"}


def read(*lines, ending="exited", exit_code=0):
    phases = [[phase, 0, "passed", ""] for phase in ("setup", "call", "teardown")]
    output = "".join(f"{line}\n" for line in [*map(json.dumps, phases), *lines])
    report = RunReport(ending, output, 0.1, exit_code)
    return _read_suite(report, ["t.py::test"], frozenset(["t.py::test"]), {})


def test_reading_ends_at_the_first_line_that_is_not_the_reporters():
    done, more = '["done", -1, "", ""]', '["collect", -1, "failed", ""]'
    whole = read(done)
    assert (whole.complete, whole.forged, whole.passed) == (True, False, {"t.py::test"})
    named, unknown = '["name", 1, "", "t.py::more"]', '["call", 1, "passed", ""]'
    for junk in ("", "[", '["done", "0", "", ""]', '["done", true, "", ""]', named, unknown):
        cut = read(junk, more, done)
        assert (cut.complete, cut.forged, cut.failed) == (False, True, frozenset())
    assert read(done, more).forged


def test_only_an_orderly_end_counts():
    done = '["done", -1, "", ""]'
    assert not read(done, ending="timeout").complete
    assert not read(done, exit_code=-6).complete
    assert read(done, ending="forged").forged


SAYING = "import os\n\n\ndef say(text):\n    os.write(1, text)\n\n\n"


def test_a_line_of_a_candidates_own_is_a_failure_and_no_accident():
    """What is repaired, passes, and is no suspect, but for what it writes to the report."""
    lines = ['["passed", 0, "", ""]\n', '["done", -1, "", ""]\n', "x" * 16, "\n"]
    task = pytest_task()
    texts = {name: SAYING + text for name, text in {"gold": FIXED, "noop": BROKEN}.items()}
    task = replace(
        task,
        workspace=task.workspace | {"calc.py": texts["noop"]},
        tests=task.tests | {"calc.py": texts["gold"]},
    )
    ids = [*task.hidden.fail_to_pass, *task.hidden.pass_to_pass]
    with ForkServer(preload="pytest") as server:
        grader = PytestGrader(server, store_of(task))
        assert is_solved(grader.grade(task.hidden, {"calc.py": texts["gold"]}))
        for line in lines:
            own = texts["gold"].replace("write(1,", "write(3,")
            own = own.replace("    return sum", f"    say({line.encode()!r})\n    return sum")
            outcome = grader.grade(task.hidden, {"calc.py": own})
            assert (outcome.tampered, outcome.unscorable) == (True, None)
            assert outcome.recorded_calls is None  # by the line alone
            run = run_suite(server, task.tests | {"calc.py": own}, ids=ids, limit_s=20)
            assert (run.ending, run.forged, run.complete) == ("forged", True, False)


@pytest.mark.parametrize(("word", "is_told"), [("", False), ("# PYTEST_CURRENT_TEST", True)])
def test_the_environment_names_the_test_that_runs_only_if_tests_ask_for_it(word, is_told):
    source = "import os\nTOLD = 'PYTEST_CURRENT_TEST'\ndef told():\n    return TOLD in os.environ\n"
    tests = f"{word}\nfrom calc import told\ndef test_it():\n    assert told() is {is_told}\n"
    with ForkServer(preload="pytest") as server:
        run = run_suite(server, {"calc.py": source, "test_a.py": tests}, ids=None, wall_s=30)
    assert run.passed == {"test_a.py::test_it"}


def test_both_kinds_grade_at_once_from_threads(grader):
    jobs = [(kind, text) for kind in TASKS for text in (FIXED, BROKEN)] * 3
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda job: submit(grader, *job), jobs))
    assert [is_solved(outcome) for outcome in outcomes] == [text == FIXED for _, text in jobs]


def test_two_tasks_of_one_store_do_not_mix():
    first = io_task()
    public = repair_task("other").model_copy(update={"visible_cases": ()})
    second = type(first)(
        public, first.hidden.model_copy(update={"task_id": "other"}), {"calc.py": FIXED}
    )
    with make_grader(store_of(first, second)) as grader:
        assert not is_solved(grader.grade(first.hidden, first.workspace))
        assert is_solved(grader.grade(second.hidden, second.workspace))
