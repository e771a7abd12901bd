from dataclasses import replace

import pytest

from envs.errors import InfrastructureError
from envs.records import Outcome
from envs.sources.synthetic import generate
from envs.tasks.build_report import NO_SANDBOX
from envs.tasks.leaks import find_leak
from envs.tasks.store import BuiltTask
from envs.tasks.validate import are_near_duplicates, describe_shape, list_grams, score, validate


class FixedGrader:
    """Gives the mended workspace and the broken one the outcomes it was told."""

    def __init__(self, *, gold, noop):
        self.gold, self.noop, self.num_graded = gold, noop, 0

    def grade(self, hidden, files):
        self.num_graded += 1
        edit = hidden.gold_edits[0]
        is_gold = files[edit.path].splitlines()[edit.start - 1] == edit.text
        if is_gold and isinstance(self.gold, InfrastructureError):
            raise self.gold
        return self.gold if is_gold else self.noop

    def run_visible(self, task, files, selector):
        raise NotImplementedError


def outcome(f2p, p2p, **more):
    return Outcome(fail_to_pass_rate=f2p, pass_to_pass_rate=p2p, sandbox_level="none", **more)


@pytest.fixture
def task():
    return next(iter(generate(1, split="train", seed=0)))


def with_public(task, **fields):
    return replace(task, public=task.public.model_copy(update=fields))


def with_hidden(task, **fields):
    return replace(task, hidden=task.hidden.model_copy(update=fields))


@pytest.mark.parametrize(
    ("gold", "noop", "reject"),
    [
        (outcome(1, 1), outcome(0, 1), None),
        (outcome(1, 1), outcome(0.5, 0), None),
        (outcome(1, 0.99), outcome(0, 1), "gold does not score 1"),
        (outcome(1, 1, tampered=True), outcome(0, 1), "gold does not score 1"),
        (outcome(1, 1), outcome(0.2, 1), "no-op does not score 0"),
    ],
    ids=["good", "good by product", "gold breaks a test", "gold screened", "no-op mends"],
)
def test_the_gate(task, gold, noop, reject):
    (checked,) = validate([task], grader=FixedGrader(gold=gold, noop=noop))
    assert (checked.task, checked.reject) == (task, reject)


def test_tasks_come_back_in_order():
    tasks = list(generate(40, split="train", seed=0))
    grader = FixedGrader(gold=outcome(1, 1), noop=outcome(0, 1))
    assert [checked.task for checked in validate(iter(tasks), grader=grader, workers=3)] == tasks
    assert grader.num_graded == 80


def test_a_task_on_which_the_sandbox_fails_is_dropped_and_many_in_a_row_end_the_build(task):
    grader = FixedGrader(gold=InfrastructureError("no fork"), noop=outcome(0, 1))
    assert [one.reject for one in validate([task] * 2, grader=grader)] == [NO_SANDBOX] * 2
    assert grader.num_graded == 6
    with pytest.raises(InfrastructureError, match=r"5 times in a row.*no fork"):
        list(validate([task] * 5, grader=grader))


def test_score_is_a_product_and_zero_when_tampered():
    assert score(outcome(0.5, 0.5)) == 0.25
    assert score(outcome(1, 1, tampered=True)) == 0.0


def test_leaks_are_found(task):
    gold = task.hidden.gold_edits[0].text.strip()
    assert find_leak(task) is None
    for statement, part in [
        (f"it was arith_swap: {task.public.statement}", "operator"),
        (f"please write {gold}", "gold line"),
        (f"see {task.hidden.unseen_tests[0]}", "hidden test"),
    ]:
        assert part in find_leak(with_public(task, statement=statement))


def test_the_file_of_the_visible_test_is_no_leak(task):
    named = with_hidden(task, unseen_tests=("tests/test_ttl.py::TestTtl::test_ttl",))
    assert (
        find_leak(with_public(named, statement="tests/test_ttl.py:7: in test_len | 1 == 2")) is None
    )
    assert find_leak(with_public(named, statement="tests/test_ttl.py:7: in test_ttl | 1 == 2"))


def test_a_hidden_test_in_the_workspace_is_a_leak(task):
    hidden = with_hidden(task, grader="pytest", unseen_tests=("t/test_a.py::TestB::test_c[1]",))
    shown = with_public(hidden, visible_tests=("t/test_a.py::test_d",))
    clean = BuiltTask(shown.public, shown.hidden, {"t/test_a.py": "def test_d():\n    pass\n"})
    assert find_leak(clean) is None
    leaky = replace(
        clean, workspace={"t/test_a.py": "class TestB:\n    def test_c(self, x):\n        1\n"}
    )
    assert "hidden test in the workspace" in find_leak(leaky)


def test_a_shape_forgets_names_of_arguments_and_locals_but_no_others():
    one = "def take(n, seq):\n    'Take.'\n    found = [x for x in seq]\n    return found[:n]\n"
    two = "@cached\ndef grab(k, xs):\n    out = [y for y in xs]\n    return out[:k]\n"
    other = two.replace("out[:k]", "out[k:]")
    asks = two.replace("for y in xs", "for y in sorted(xs)")
    elsewhere = two.replace("for y in xs", "for y in reversed(xs)")
    assert describe_shape(one) == describe_shape(two) != describe_shape(other)
    assert describe_shape(asks) != describe_shape(elsewhere), "another function is called"


def test_near_duplicates_ignore_names_docstrings_and_layout():
    one = (
        "def take(n, seq):\n    '''Take.'''\n    return islice(iter(seq), n) if n else list(seq)\n"
    )
    two = "def grab(n, seq):\n    return islice(iter(seq),\n        n) if n else list(seq)\n"
    other = "def drop(n, seq):\n    for _ in range(n):\n        next(seq, None)\n    return seq\n"
    assert are_near_duplicates(list_grams(one), list_grams(two))
    assert not are_near_duplicates(list_grams(one), list_grams(other))
