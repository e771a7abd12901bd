"""SWE-Gym-style instances: the repository has the bug, the patch is its fix."""

import pytest

from envs.importers.instance import RejectError
from envs.importers.patched import read_swe_gym
from envs.mutation.patches import make_patch
from tests.envs.importers.test_check_instance import OF_CLAMP, OF_TOTAL, PATH, SUITE, imported
from tests.envs.projects.small_project import CALC, FILES, TESTS

WRONG = CALC.replace("min(max(value, low), high)", "max(min(value, low), high)")
FEWER = TESTS.replace(TESTS[TESTS.index("def test_clamp()") : TESTS.index("def test_evens")], "")
TWICE = "def twice(x):\n    return x + x\n"
TESTS_OF_TWICE = """from calc.twice import twice


def test_twice():
    assert twice(2) == 4


def test_twice_of_text():
    assert twice("a") == "aa"
"""


def added(path, text):
    lines = text.split("\n")[:-1]
    head = f"diff --git a/{path} b/{path}\nnew file mode 100644\nindex 0..1\n"
    hunk = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n"
    return head + (hunk + "".join(f"+{line}\n" for line in lines) if lines else "")


def instance(**fields):
    return {
        "instance_id": "calc__calc-1",
        "repo": "calc/calc",
        "base_commit": "1a2b",
        "version": "1.0",
        "patch": make_patch({PATH: WRONG}, {PATH: CALC}) + added("docs/news.rst", "Fixed.\n"),
        "test_patch": make_patch({SUITE: FEWER}, {SUITE: TESTS}),
        "problem_statement": "Clamping is off.",
        "FAIL_TO_PASS": OF_CLAMP,
        "PASS_TO_PASS": OF_TOTAL,
    } | fields


def test_a_fix_is_taken_out_and_its_tests_are_hidden(tmp_path):
    new = instance(
        instance_id="calc__calc-2",
        patch=added("calc/twice.py", TWICE) + added("calc/data/none.txt", ""),
        test_patch=added("tests/test_twice.py", TESTS_OF_TWICE),
        problem_statement="One cannot double.",
        FAIL_TO_PASS=[
            f"tests/test_twice.py::{name}" for name in ("test_twice", "test_twice_of_text")
        ],
        PASS_TO_PASS=[],
    )
    wrong = instance(instance_id="wrong", patch=make_patch({PATH: WRONG}, {PATH: WRONG + "\n"}))
    files = FILES | {PATH: WRONG, SUITE: FEWER}
    first, second, third = imported(tmp_path, instance(), new, wrong, files=files)

    assert first.task is not None, first.reject
    public, hidden = first.task.public, first.task.hidden
    assert (public.statement, public.editable) == ("Clamping is off.", (PATH,))
    assert (first.task.workspace[PATH], first.task.tests[PATH]) == (WRONG, CALC)
    assert "docs/news.rst" not in first.task.workspace, "documentation would tell"
    assert set(hidden.fail_to_pass) == set(OF_CLAMP)
    assert len(public.visible_tests) == 1
    assert first.task.workspace[SUITE].count("def test_") == 1

    assert second.task is not None, second.reject
    assert second.task.workspace["calc/twice.py"] == "", "it may be edited, so it is there"
    assert second.task.workspace["calc/data/none.txt"] == ""
    assert second.task.public.editable == ("calc/twice.py",)
    assert third.reject.startswith("FAIL_TO_PASS does not pass five times without the bug (")
    assert "AssertionError" in third.reject or "assert" in third.reject


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"patch": "none"}, r"the patch cannot be used \(it is no unified diff"),
        ({"test_patch": "none"}, r"the test_patch cannot be used \(it is no unified diff"),
        ({"patch": "deleted file mode 100644\n"}, "removes or renames a file"),
        ({"patch": added("../x.py", "x\n")}, "outside of the tree"),
        ({"patch": added(PATH, "x\n")}, "adds calc/core.py, which is there already"),
    ],
)
def test_patches_that_cannot_be_used_say_why(fields, reason):
    with pytest.raises(RejectError, match=reason):
        read_swe_gym(instance(**fields)).plant(FILES | {PATH: WRONG, SUITE: FEWER})
