"""SWE-smith-style instances of a small repository, good and bad ones."""

import json

import pytest

from envs.errors import UserError
from envs.mutation.patches import make_patch
from envs.projects import swe_smith
from envs.projects.swe_smith import import_instances, read_instances, read_repository
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


def imported(folder, *instances):
    path = folder / "instances.json"
    path.write_text(json.dumps(instances), "utf-8")
    found = read_instances(path)
    return list(import_instances(found, files=written(folder), split="dev"))


def written(folder):
    for path, text in FILES.items():
        (folder / "repo" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "repo" / path).write_text(text, "utf-8")
    return read_repository(folder / "repo")


BAD = {
    "no diff": ({"patch": "min(max)"}, "the patch cannot be used (it is no unified diff)"),
    "of another commit": (
        {"patch": bug("return min(", "return max(").replace("-    return", "-    x = ")},
        "does not fit calc/core.py",
    ),
    "a new file": (
        {"patch": "--- /dev/null\n+++ b/calc/new.py\n@@ -0,0 +1 @@\n+x\n"},
        "adds, removes or renames a file",
    ),
    "changes the tests": (
        {"patch": bug("assert total([5]) == 5", "pass", path=SUITE, text=TESTS)},
        "changes more than Python sources (tests/test_core.py)",
    ),
    "fails nothing": (
        {"FAIL_TO_PASS": OF_SPREAD, "PASS_TO_PASS": OF_TOTAL},
        "FAIL_TO_PASS passes with the bug (tests/test_core.py::TestSpread::test_spread)",
    ),
    "fails more": (
        {"PASS_TO_PASS": OF_CLAMP[1:] + OF_TOTAL, "FAIL_TO_PASS": OF_CLAMP[:1] + OF_TOTAL[:1]},
        "FAIL_TO_PASS passes with the bug (tests/test_core.py::test_total)",
    ),
    "is red without the bug": (
        {"FAIL_TO_PASS": [*OF_CLAMP, f"{SUITE}::test_skipped"]},
        "does not pass five times without the bug (tests/test_core.py::test_skipped)",
    ),
    "names no test": ({"FAIL_TO_PASS": []}, "FAIL_TO_PASS is empty"),
    "one test function": (
        {"FAIL_TO_PASS": OF_CLAMP[:1], "PASS_TO_PASS": OF_TOTAL},
        "one failing test function only",
    ),
    "most of the tests": (
        {"FAIL_TO_PASS": OF_CLAMP, "PASS_TO_PASS": OF_TOTAL[:1]},
        "more than half of the named tests fail",
    ),
    "no import": (
        {"patch": bug('"""Arithmetic on lists."""', "import nothing_like_this")},
        "collection or the run itself breaks",
    ),
}


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


def test_a_repository_is_read_without_what_is_no_source(tmp_path):
    files = written(tmp_path)
    assert set(files) == {path for path in FILES if path.startswith(("calc", "tests"))}
    repo = tmp_path / "repo"
    for path in (".git/hooks.py", "venv/x.py", "calc/__pycache__/y.py", "calc.egg-info/z.py"):
        (repo / path).parent.mkdir(parents=True)
        (repo / path).write_text("x = 1\n", "utf-8")
    (repo / "calc" / "picture.dat").write_bytes(b"\0\xff")
    (repo / "calc" / "passwd.py").symlink_to("/etc/passwd")
    assert read_repository(repo) == files
    (tmp_path / "empty").mkdir()
    for name, what in (("none", "no such folder"), ("empty", "no project of usual size")):
        with pytest.raises(UserError, match=what):
            read_repository(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "no usable instances"),
        ("[]", "instances of one repository"),
        (json.dumps({"instance_id": "x"}), "no usable instances"),
        (json.dumps(instance(FAIL_TO_PASS="[")), "no usable instances"),
        (json.dumps([instance(), instance(repo="b")]), "instances of one repository"),
    ],
    ids=["cut", "empty", "a field is missing", "a list is cut", "two repositories"],
)
def test_a_file_that_is_no_list_of_instances_says_so(tmp_path, text, what):
    (tmp_path / "x.json").write_text(text, "utf-8")
    with pytest.raises(UserError, match=what):
        read_instances(tmp_path / "x.json")


def test_instances_may_stand_on_lines_or_alone(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps(instance('a'))}\n\n{json.dumps(instance('b'))}\n", "utf-8")
    assert [each.instance_id for each in read_instances(path)] == ["a", "b"]
    path.write_text(json.dumps(instance("c"), indent=1), "utf-8")
    assert [each.FAIL_TO_PASS for each in read_instances(path)] == [tuple(OF_CLAMP)]


def test_where_no_named_test_exists_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(swe_smith, "run_five_times", None)
    (found,) = imported(
        tmp_path, instance(FAIL_TO_PASS=["tests/test_x.py::test_a"], PASS_TO_PASS=[])
    )
    assert "nothing of PASS_TO_PASS passes here" in found.reject
