"""Tasks whose repair puts back words that are shown, or that only hidden tests have."""

import pytest

from envs.records import Edit
from envs.sources.synthetic import generate
from envs.tasks.store import BuiltTask
from envs.tasks.unshown import needs_unshown_word

SHOWN, HIDDEN = "tests/test_a.py::test_f", "tests/test_b.py::test_g"
GOLD = '    if a > 4711:\n        raise ValueError("a must be small")\n'


def needs(*, workspace="", statement="", hidden='match="must be small"'):
    made = next(iter(generate(1, split="train", seed=0)))
    files = {"m.py": f"def f(a):\n    return a\n{workspace}"}
    edits = (Edit(path="m.py", start=2, end=1, text=GOLD),)
    tests = files | {"tests/test_b.py": f"def test_g():\n    {hidden}\n"}
    asked = {"grader": "pytest", "gold_edits": edits, "fail_to_pass": (SHOWN, HIDDEN)}
    public = made.public.model_copy(update={"statement": statement})
    return needs_unshown_word(BuiltTask(public, made.hidden.model_copy(update=asked), files, tests))


@pytest.mark.parametrize("hidden", ["f(4711)", 'match="must be small"', "ValueError"])
def test_a_word_that_only_hidden_tests_have_is_found(hidden):
    assert needs(hidden=hidden)
    assert not needs(hidden="f(7) == 47110")


def test_a_word_may_be_shown_by_the_statement_or_any_file():
    assert not needs(statement="ValueError: a must be small")
    assert not needs(workspace="# ValueError: how small must it be?\n")
    assert needs(workspace="# ValueError: musty smallness\n")
