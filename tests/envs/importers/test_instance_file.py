"""Files of instances from anywhere: known by their fields, or refused with a remedy."""

import json
import os

import pytest

from envs.errors import UserError
from envs.importers import instance_file
from envs.importers.instance_file import read_instances

PATCHED = {
    "instance_id": "x",
    "repo": "a/b",
    "patch": "",
    "FAIL_TO_PASS": ["t.py::a"],
    "PASS_TO_PASS": '["t.py::b"]',
}
SMITH, GYM = PATCHED | {"image_name": "i"}, PATCHED | {"test_patch": "", "version": "1"}
R2E = {
    "repo_name": "b",
    "commit_hash": "c",
    "parsed_commit_content": json.dumps({"file_diffs": []}),
    "execution_result_content": json.dumps({"test_file_names": [], "test_file_codes": []}),
    "expected_output_json": "{}",
}
PROGRAM = {
    "prompt": "def f():\n",
    "canonical_solution": "    return 1\n",
    "buggy_solution": "    return 2\n",
    "test": "def check(f):\n    assert f() == 1\n",
    "entry_point": "f",
}


def written(folder, *rows):
    path = folder / "x.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "is_mutant", "needs_repository"),
    [
        (SMITH, True, True),
        (GYM, False, True),
        (R2E, False, True),
        (PROGRAM, False, False),
        (PROGRAM | {"buggy": PROGRAM["buggy_solution"]}, False, False),
    ],
    ids=["swe-smith", "swe-gym", "r2e-gym", "humanevalpack", "human-eval"],
)
def test_the_format_is_known_by_its_fields(tmp_path, row, is_mutant, needs_repository):
    path = written(tmp_path, row, row)
    for found in read_instances(path):
        assert (found.is_mutant, found.needs_repository) == (is_mutant, needs_repository)
    path.write_text(json.dumps(row, indent=1), "utf-8")
    assert len(read_instances(path)) == 1, "alone, over several lines"


def test_lists_of_tests_may_be_texts_and_ids_tell_nothing(tmp_path):
    (found,) = read_instances(written(tmp_path, SMITH))
    assert (found.failing, found.passing) == ({"t.py::a"}, {"t.py::b"})
    (program,) = read_instances(written(tmp_path, PROGRAM | {"task_id": "cmp_negate/3"}))
    assert (program.name, program.origin, program.project) == ("cmp_negate/3", "x number 1", "x")


def test_a_patch_of_unknown_direction_is_refused_until_somebody_says(tmp_path):
    path = written(tmp_path, PATCHED)
    with pytest.raises(UserError, match="the bug or the fix: no field says it") as caught:
        read_instances(path)
    assert "FAIL_TO_PASS" in caught.value.got
    assert "--format swe-smith (the bug) or --format swe-gym (the fix)" in caught.value.remedy
    with pytest.raises(UserError, match="it has test_patch and version and image_name"):
        read_instances(written(tmp_path, GYM | SMITH))
    assert read_instances(path, form="swe-smith")[0].is_mutant
    assert not read_instances(path, form="swe-gym")[0].is_mutant


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "what", "got"),
    [
        ("{", "no usable instances", "Expecting"),
        ("", "no usable instances", "an empty list"),
        ("[]", "no usable instances", "an empty list"),
        ("[1]", "no usable instances", "something else than objects"),
        ("{}", "of no format", "none"),
        ('{"prompt": "", "odd": 1}', "of no format", "odd, prompt"),
        (DEEP, "no usable instances", "nested too deep"),
        ('{"patch": ' + "9" * 5_000 + "}", "no usable instances", "4300 digits"),
        (json.dumps([SMITH, GYM]), "mixes formats", "swe-gym, swe-smith"),
        (json.dumps([SMITH, SMITH | {"repo": "a/c"}]), "of one repository", "b, c"),
        (json.dumps(SMITH | {"FAIL_TO_PASS": "["}), "no usable", "number 1: ('FAIL_TO_PASS',)"),
        (json.dumps(SMITH | {"FAIL_TO_PASS": DEEP}), "no usable", "nested too deep"),
        (json.dumps(SMITH | {"PASS_TO_PASS": [[1]]}), "no usable", "('PASS_TO_PASS', 0)"),
        (json.dumps(GYM | {"patch": 3}), "no usable", "('patch',)"),
        (json.dumps(R2E | {"expected_output_json": "[]"}), "no usable", "expected_output_json"),
        (json.dumps(R2E | {"parsed_commit_content": "{}"}), "no usable", "file_diffs"),
        (json.dumps(PROGRAM | {"buggy_solution": None}), "no usable", "('buggy',)"),
        ("\ud800".encode("utf-8", "surrogatepass"), "no usable instances", "codec"),
    ],
)
def test_a_file_that_is_no_list_of_instances_says_so(tmp_path, text, what, got):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=what) as caught:
        read_instances(path)
    assert got in caught.value.got
    assert caught.value.remedy


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = written(tmp_path, SMITH)
    text = path.read_text("utf-8")
    for line, said in (("{", "line 3: Expecting"), ("[" * 100_000, "line 3: nested too deep")):
        path.write_text(f"{text}{line}\n{text}", "utf-8")
        with pytest.raises(UserError, match=r"x\.jsonl holds no usable instances") as caught:
            read_instances(path)
        assert caught.value.got.startswith(said)


def test_what_is_no_file_or_too_large_is_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(written(tmp_path, SMITH))
    for name, what in (
        ("fifo", "not a regular file"),
        ("link", "not a regular file"),
        ("", "not a regular file"),
        ("z", "no such"),
    ):
        with pytest.raises(UserError, match=what):
            read_instances(tmp_path / name)
    monkeypatch.setattr(instance_file, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="too large"):
        read_instances(written(tmp_path, SMITH))
