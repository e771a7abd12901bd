"""R2E-Gym-style instances: whole texts before and after a commit, tests in their own folder."""

import json

import pytest

from envs.importers.instance import RejectError
from envs.importers.r2e_gym import read_r2e_gym
from tests.envs.importers.test_check_instance import PATH, imported
from tests.envs.importers.test_patched import WRONG
from tests.envs.projects.small_project import CALC, FILES, TESTS

DATA = """

def test_data():
    assert open("docs/odd.bin", "rb").read() == b"\\0\\xff"
"""


def diff(path, old, new, **fields):
    return {
        "header": {"file": {"path": path}, "misc_line": None},
        "old_file_content": old,
        "new_file_content": new,
        "minus_file": {"path": f"a/{path}"},
        "plus_file": {"path": f"b/{path}"},
        "hunks": [],
    } | fields


def instance(*diffs, **fields):
    status = {"test_clamp": "PASSED", "\x1b[1mtest_clamp_to_a_point\x1b[0m": "PASSED"}
    status |= {"TestSpread.test_spread": "PASSED", "test_largest[values0]": "PASSED"}
    status["test_data"] = "PASSED"
    diffs = diffs or [diff(PATH, WRONG, CALC), diff("CHANGES.rst", "", "Fixed.\n")]
    return {
        "repo_name": "calc",
        "docker_image": "not read",
        "commit_hash": "0123456789abcdef",
        "parsed_commit_content": json.dumps({"file_diffs": diffs}),
        "execution_result_content": json.dumps(
            {"test_file_names": ["test_1.py"], "test_file_codes": [TESTS + DATA]}
        ),
        "modified_files": [PATH],
        "prompt": "not read",
        "problem_statement": "Seen.\n[ISSUE]\nClamping is off.\n[/ISSUE]",
        "expected_output_json": json.dumps(status | {"test_evens": "FAILED"}),
    } | fields


def test_the_repository_may_be_before_or_after_the_commit():
    before, after = (read_r2e_gym(instance()).plant(FILES | {PATH: text}) for text in (WRONG, CALC))
    assert before == after
    assert (before.broken[PATH], before.pristine[PATH]) == (WRONG, CALC)


def test_tests_that_are_said_to_pass_are_run_and_one_that_fails_is_shown(tmp_path):
    (tmp_path / "repo" / "docs").mkdir(parents=True)
    (tmp_path / "repo" / "docs" / "odd.bin").write_bytes(b"\0\xff")
    (found,) = imported(tmp_path, instance(), files=FILES | {PATH: WRONG})
    assert found.task is not None, found.reject
    public, hidden = found.task.public, found.task.hidden
    assert (found.name, public.statement) == ("calc-0123456789", "Clamping is off.")
    assert (found.task.workspace[PATH], found.task.tests[PATH]) == (WRONG, CALC)
    names = [f"r2e_tests/test_1.py::{name}" for name in ("test_clamp", "test_clamp_to_a_point")]
    assert hidden.fail_to_pass == tuple(names)
    others = {"TestSpread::test_spread", "test_largest[values0]", "test_data"}
    ids = {f"r2e_tests/test_1.py::{name}" for name in others}
    assert set(hidden.pass_to_pass) == ids, "test_evens is said to fail; whole trees are kept"
    assert public.visible_tests[0] in names
    assert [path for path in found.task.workspace if "test" in path] == ["r2e_tests/test_1.py"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (diff(PATH, "x = 1\n", "x = 2\n"), "neither as before nor as after"),
        (diff("calc/none.py", "x = 1\n", "x = 2\n"), "changes a file that is not there"),
        (diff(PATH, CALC, ""), "removes or renames"),
        (diff(PATH, WRONG, CALC, plus_file={"path": "b/calc/new.py"}), "removes or renames"),
        (diff(PATH, WRONG, CALC, is_binary_file=True), "changes bytes"),
    ],
)
def test_commits_that_cannot_be_used_say_why(changed, reason):
    with pytest.raises(RejectError, match=reason):
        read_r2e_gym(instance(changed)).plant(FILES)


def test_a_file_that_the_commit_adds_is_there_but_empty():
    trees = read_r2e_gym(instance(diff("calc/new.py", "", "x = 1\n"))).plant(FILES)
    assert (trees.broken["calc/new.py"], trees.pristine["calc/new.py"]) == ("", "x = 1\n")
