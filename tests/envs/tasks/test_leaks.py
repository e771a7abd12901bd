"""Leaks planted in each place that an agent may read."""

from dataclasses import replace

import pytest

from envs.sources.synthetic import generate
from envs.tasks.leaks import find_leak
from envs.tasks.store import BuiltTask

VISIBLE, UNSEEN = "tests/test_ttl.py::test_len", "tests/test_more.py::TestTtl::test_expiry[1]"
OTHER = "tests/test_more.py"


@pytest.fixture
def task():
    """A clean pytest-graded task."""
    made = next(iter(generate(1, split="train", seed=0)))
    public = {"visible_tests": (VISIBLE,), "visible_cases": (), "statement": f"{VISIBLE} fails"}
    hidden = {"grader": "pytest", "fail_to_pass": (VISIBLE, UNSEEN), "unseen_tests": (UNSEEN,)}
    workspace = made.workspace | {"tests/test_ttl.py": "def test_len():\n    assert 0\n"}
    clean = BuiltTask(
        made.public.model_copy(update=public), made.hidden.model_copy(update=hidden), workspace
    )
    assert find_leak(clean) is None
    return clean


def public(task, **fields):
    return replace(task, public=task.public.model_copy(update=fields))


def gold_of(task):
    return task.hidden.gold_edits[0].text.strip()


def origin(task, text):
    return {"provenance": task.public.provenance.model_copy(update={"origin": text})}


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lambda t: public(t, id="t_cmp_negate_1"), "operator in the id"),
        (lambda t: public(t, project="toolz.func_pm_arith_swap__x"), "operator in the id"),
        (lambda t: public(t, **origin(t, "swesmith:a.if_negate__1")), "operator in the id"),
        (lambda t: public(t, editable=("bug_return_none.py",)), "operator in the paths"),
        (lambda t: public(t, statement="see operand_swap"), "operator in the statement"),
        (lambda t: public(t, id=gold_of(t)), "gold line in the id"),
        (lambda t: public(t, statement=f"try\n{gold_of(t)}"), "gold line in the statement"),
        (
            lambda t: public(t, statement="try " + gold_of(t).replace(" ", " \n  ")),
            "gold line in the statement",
        ),
        (lambda t: public(t, id="t_1 test_expiry"), "hidden test in the id"),
        (lambda t: public(t, statement="test_expiry fails too"), "hidden test in the statement"),
        (
            lambda t: replace(t, workspace=t.workspace | {gold_of(t): "x\n"}),
            "gold line in the paths",
        ),
        (
            lambda t: replace(t, workspace=t.workspace | {"notes_var_misuse.txt": "x\n"}),
            "operator in the paths",
        ),
        (
            lambda t: replace(t, workspace=t.workspace | {"tests/test_more.py": "x = 1\n"}),
            "hidden test in the paths",
        ),
        (
            lambda t: replace(t, workspace=t.workspace | {"a.py": "def test_expiry():\n    0\n"}),
            "hidden test in the workspace",
        ),
    ],
)
def test_a_planted_leak_is_found(task, plant, found):
    assert find_leak(plant(task)) == f"leak: {found}"


def test_an_operator_of_another_make_counts_too(task):
    own = replace(task, hidden=task.hidden.model_copy(update={"operators": ("lm_rewrite",)}))
    assert find_leak(public(own, id="toolz.lm_rewrite__x")) == "leak: operator in the id"


def test_no_generated_task_leaks():
    for split in ("train", "dev", "test"):
        for made in generate(100, split=split, seed=3):
            assert find_leak(made) is None


def test_the_folders_of_a_visible_test_may_be_named_and_its_file_not(task):
    statement = f"{VISIBLE} fails in tests/test_ttl.py, in folder tests"
    unseen = ("tests/test_more.py::tests", "tests/test_more.py::test_ttl")
    for hidden, found in zip(unseen, (None, "leak: hidden test in the statement"), strict=True):
        half = task.hidden.model_copy(update={"unseen_tests": (hidden,)})
        named = statement if found is None else f"{statement}, as test_ttl does"
        assert find_leak(replace(public(task, statement=named), hidden=half)) == found


def test_a_parameter_may_look_like_an_id(task):
    half = task.hidden.model_copy(update={"unseen_tests": (f"{OTHER}::test_url[http://[::1]-E]",)})
    hidden = replace(task, hidden=half)
    assert (
        find_leak(public(hidden, statement="as test_url says"))
        == "leak: hidden test in the statement"
    )
