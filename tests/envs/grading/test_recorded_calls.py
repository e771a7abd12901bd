import random
from dataclasses import replace

import pytest

from envs.errors import UserError
from envs.grading.graders import PytestGrader
from envs.grading.recorded_calls import RecordedCalls, RecordedSequence, find_first
from envs.sandbox.fork_server import ForkServer
from envs.tasks.store import Manifest, TaskStore, write_built
from tests.envs.small_tasks import BROKEN, FIXED, pytest_task

# Knows what the hidden tests ask, as one may who has read the project elsewhere.
BY_HEART = """
def total(values):
    return {(1, 2): 3, (5,): 5, (): 0}.get(tuple(values), 1)


def first(values):
    return values[0]
"""


def sequence(argument, result):
    operation = [0, "call", ["r", "calc:total"], "", [["l", argument]], {}, ""]
    return RecordedSequence(operations=(operation,), expected=[[result, [["l", argument]]]])


CALLS = RecordedCalls(
    suite=("tests/test_calc.py",),
    sequences={3: sequence([1, 2], 3), 5: sequence([4, 4], 8), 9: sequence([1], 1)},
)


def task_with_calls(numbers=(3, 5)):
    task = pytest_task()
    hidden = task.hidden.model_copy(update={"calls_sha": CALLS.sha256, "calls": numbers})
    return replace(task, hidden=hidden, calls=CALLS)


def grade(task, text):
    with ForkServer(preload="pytest") as server:
        return PytestGrader(server, TaskStore.of([task])).grade(task.hidden, {"calc.py": text})


def test_a_pass_counts_if_the_recorded_calls_agree():
    outcome = grade(task_with_calls(), FIXED)
    assert (outcome.fail_to_pass_rate, outcome.pass_to_pass_rate) == (1.0, 1.0)
    assert outcome.recorded_calls == ""
    assert grade(pytest_task(), FIXED).recorded_calls is None


def test_a_pass_that_the_recorded_calls_do_not_confirm_pays_nothing():
    assert grade(pytest_task(), BY_HEART).fail_to_pass_rate == 1.0
    outcome = grade(task_with_calls(), BY_HEART)
    assert (outcome.fail_to_pass_rate, outcome.tampered) == (0.0, False)
    assert outcome.recorded_calls == "recorded calls, sequence 5: calc:total differs"


def test_of_a_failure_nothing_more_is_asked():
    assert grade(task_with_calls(), BROKEN).recorded_calls is None


def test_a_set_keeps_the_calls_that_its_tasks_are_graded_by(tmp_path):
    task = task_with_calls()
    manifest = Manifest(source="path", seed=0, licence="MIT")
    write_built(tmp_path / "set", tasks=[task], manifest=manifest)
    store = TaskStore.open(tmp_path / "set")
    hidden = store.hidden[task.public.id]
    kept = {number: CALLS.sequences[number] for number in (3, 5)}
    assert store.calls(hidden) == CALLS.model_copy(update={"sequences": kept})
    assert store.built()[0].hidden == task.hidden
    assert hidden.calls == (3, 5)
    shown = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    public = [path for path in shown if "private" not in path.parts]
    assert not any(b"sequences" in path.read_bytes() for path in public)


def test_only_tasks_with_calls_may_be_asked_for():
    with_calls, without = task_with_calls(), pytest_task()
    renamed = without.hidden.model_copy(update={"task_id": "other"})
    other = replace(
        without, public=without.public.model_copy(update={"id": "other"}), hidden=renamed
    )
    assert list(TaskStore.of([with_calls, other]).keep_recorded().public) == ["pytest"]
    with pytest.raises(UserError, match="no train task has recorded calls"):
        TaskStore.of([other]).keep_recorded()


@pytest.mark.parametrize(
    ("found", "expected", "is_same"),
    [
        (["f", "0.1"], ["f", "0.10000000000000001"], True),
        (["f", "0.1"], ["f", "0.1000001"], False),
        (["f", "nan"], ["f", "nan"], True),
        (1, ["f", "1.0"], False),
        (True, 1, False),
        (["l", ["f", "0.50"]], ["l", ["f", "0.5"]], False),
        (["t", [1]], ["l", [1]], False),
        (["d", [["a", 1], ["b", 2]]], ["d", [["b", 2], ["a", 1]]], False),
        (["v", "a:B", [["x", 1], ["y", 2]], None], ["v", "a:B", [["x", 1]], None], True),
        (["v", "a:B", [["y", 2]], None], ["v", "a:B", [["x", 1]], None], False),
        (["v", "a:C", [["x", 1]], None], ["v", "a:B", [["x", 1]], None], False),
        (["g", [1], ""], ["g", [1, 2], ""], False),
        (["e", "builtins:KeyError"], ["e", "builtins:LookupError"], False),
    ],
)
def test_results_are_compared_by_exact_type(found, expected, is_same):
    assert (find_first([[found, []]], [[expected, []]]) is None) == is_same


def any_json(draw, depth=0):
    kinds = [None, True, 3, "f", "v", "l", 0.5, "", {}, {"a": 1}]
    if depth > 4 or draw.random() < 0.4:
        return draw.choice(kinds)
    return [any_json(draw, depth + 1) for _ in range(draw.randrange(5))]


def test_whatever_a_candidate_writes_is_compared_without_an_error():
    draw = random.Random(0)
    expected = [
        [["f", "0.5"], []],
        [["v", "shop:Cart", [["name", "cart"]], None], [["l", [1]]]],
        [["d", [["a", 1]]], []],
        [["g", [1, 2], ""], []],
        [None, "not done"],
    ]
    assert find_first(expected, expected) is None
    for _ in range(5_000):
        found = [any_json(draw) for _ in range(draw.randrange(7))]
        assert find_first(found, expected) is not None
