"""SWE-smith-style instances of a small repository, good and bad ones."""

import json

import pytest

from envs.importers.check_instance import import_instances
from envs.importers.instance import RejectError, Trees
from envs.importers.instance_file import read_instances
from envs.importers.repository import open_repository
from envs.mutation.patches import make_patch
from tests.envs.projects.small_project import CALC, FILES, TESTS

PATH, SUITE = "calc/core.py", "tests/test_core.py"
OF_CLAMP = [f"{SUITE}::test_clamp", f"{SUITE}::test_clamp_to_a_point"]
OF_TOTAL = [f"{SUITE}::test_total", f"{SUITE}::test_total_of_one"]
OF_SPREAD = [f"{SUITE}::TestSpread::{name}" for name in ("test_spread", "test_spread_of_negative")]


def bug(old, new, *, path=PATH, text=CALC):
    assert old in text
    return make_patch({path: text}, {path: text.replace(old, new, 1)})


def instance(name="calc__calc.1a2b3c4d.func_pm_op_swap__x", **fields):
    return {
        "instance_id": name,
        "repo": "swesmith/calc__calc.1a2b3c4d",
        "patch": bug("min(max(value, low), high)", "max(min(value, low), high)"),
        "FAIL_TO_PASS": OF_CLAMP,
        "PASS_TO_PASS": json.dumps([*OF_TOTAL, *OF_SPREAD]),
        "image_name": "not read",
        "base_commit": "1a2b3c4d",
    } | fields


def imported(folder, *instances, files=FILES, split="dev"):
    """Return what becomes of instances of a small repository."""
    path = folder / "instances.json"
    path.write_text(json.dumps(instances), "utf-8")
    for where, text in files.items():
        (folder / "repo" / where).parent.mkdir(parents=True, exist_ok=True)
        (folder / "repo" / where).write_text(text, "utf-8")
    repository = open_repository(
        folder / "repo", python=None, split=split, cache_dir=folder / "cache"
    )
    return list(import_instances(read_instances(path), repository))


TWO_BUGS = make_patch(
    {PATH: CALC},
    {PATH: CALC.replace("min(max(", "max(min(").replace("result = 0", "result = 1")},
)
BAD = {
    "no diff": ({"patch": "min(max)"}, "the patch cannot be used (it is no unified diff)"),
    "of another commit": (
        {"patch": bug("return min(", "return max(").replace("-    return", "-    x = ")},
        "does not fit calc/core.py",
    ),
    "a new file": (
        {"patch": "--- /dev/null\n+++ b/calc/new.py\n@@ -0,0 +1 @@\n+x\n"},
        "the patch adds a file, which no edit removes (calc/new.py)",
    ),
    "changes the tests": (
        {"patch": bug("assert total([5]) == 5", "pass", path=SUITE, text=TESTS)},
        "changes more than Python sources (tests/test_core.py)",
    ),
    "fails nothing": (
        {"FAIL_TO_PASS": OF_SPREAD, "PASS_TO_PASS": OF_TOTAL},
        "should fail passes with the bug (tests/test_core.py::TestSpread::test_spread)",
    ),
    "fails more": (
        {"PASS_TO_PASS": OF_CLAMP[1:] + OF_TOTAL, "FAIL_TO_PASS": OF_CLAMP[:1] + OF_TOTAL[:1]},
        "should fail passes with the bug (tests/test_core.py::test_total)",
    ),
    "is red without the bug": (
        {"FAIL_TO_PASS": [*OF_CLAMP, f"{SUITE}::test_skipped"]},
        "not there (tests/test_core.py::test_skipped: it is skipped, or not collected)",
    ),
    "fails another one": (
        {"PASS_TO_PASS": [*OF_TOTAL, *OF_SPREAD], "patch": TWO_BUGS},
        "fails with the bug (tests/test_core.py::test_total: assert 7 == 6)",
    ),
    "names a test that is not there": (
        {"FAIL_TO_PASS": [f"{SUITE}::test_clmp"]},
        "(tests/test_core.py::test_clmp: no such test, but test_clamp and",
    ),
    "names a file that is not there": (
        {"FAIL_TO_PASS": ["tests/test_cor.py::test_x"]},
        "no such file, but tests/test_core.py",
    ),
    "names no test": ({"FAIL_TO_PASS": []}, "FAIL_TO_PASS is empty"),
    "one test function": (
        {"FAIL_TO_PASS": OF_CLAMP[:1], "PASS_TO_PASS": OF_TOTAL},
        "one failing test only",
    ),
    "most of the tests": (
        {"FAIL_TO_PASS": OF_CLAMP, "PASS_TO_PASS": OF_TOTAL[:1]},
        "more than half of the named tests fail",
    ),
    "no import": (
        {"patch": bug('"""Arithmetic on lists."""', "import nothing_like_this")},
        "itself breaks (ModuleNotFoundError: No module named 'nothing_like_this')",
    ),
}


@pytest.mark.parametrize("path", ["../x.py", "/etc/x.py", "a/../../x.py", "a\0.py", ""])
def test_no_path_leads_out_of_a_program(path):
    for trees in (({path: ""}, {}), ({}, {path: ""})):
        with pytest.raises(RejectError, match="leads out of the program"):
            Trees(*trees)


def test_good_instances_become_tasks_and_bad_ones_say_why(tmp_path):
    bad = [instance(name, **fields) for name, (fields, _) in BAD.items()]
    told = instance("told", problem_statement="Clamping is off.", patch=bug("low), h", "high), h"))
    red = [*OF_TOTAL, *OF_SPREAD, f"{SUITE}::test_skipped", "tests/gone.py::test_x"]
    found = imported(
        tmp_path, instance(), instance("twice"), told, *bad, instance("red", PASS_TO_PASS=red)
    )
    first, twice, second, *others, last = found
    assert first.task is not None, first.reject
    task, hidden = first.task.public, first.task.hidden
    assert task.split == "dev"
    assert task.editable == (PATH,)
    assert hidden.fail_to_pass == tuple(OF_CLAMP)
    assert set(hidden.pass_to_pass) == {*OF_TOTAL, *OF_SPREAD}
    assert task.statement.startswith(f"{task.visible_tests[0]} fails:")
    assert first.task.tests[PATH] == CALC
    assert "max(min(value, low), high)" in first.task.workspace[PATH]
    for text in (task.id, task.project, task.provenance.origin, task.statement):
        assert "op_swap" not in text
    assert twice.reject == "repeats another instance"
    assert second.task.public.statement == "Clamping is off."
    for each, (_, reason) in zip(others, BAD.values(), strict=True):
        assert each.task is None, each.instance_id
        assert reason in each.reject
    assert last.reject == "repeats another instance", "red tests to pass are left out"
