import subprocess
import sys
import textwrap

import pytest

from envs.errors import UserError
from envs.projects.baseline import find_reason, find_stable_tests, name_some, run_five_times
from envs.projects.lock_file import fetch, read_sdist
from tests.envs.projects.small_project import FILES, TESTS, project

FAILING = TESTS + "\n\ndef test_red():\n    assert evens([2]) == []\n"
EXPECTED_TO_FAIL = """

@pytest.mark.xfail
def test_wrong_so_far():
    assert evens([2]) == []
"""
OF_PARTS = """

import unittest

class TestParts(unittest.TestCase):
    def test_parts(self):
        for value in (2, 4):
            with self.subTest(value=value):
                assert evens([value]) == [value]

    def test_broken_part(self):
        for value in (1, 2):
            with self.subTest(value=value):
                assert evens([value]) == [value]
"""
OF_PLUGINS = """
import logging
import subprocess
import sys


@pytest.fixture(autouse=True)
def named(doctest_namespace, record_property):
    doctest_namespace["one"] = 1
    record_property("one", 1)


def test_log(caplog):
    logging.warning("said")
    assert caplog.messages == ["said"]


def test_stream():
    subprocess.run(["true"], stderr=sys.stderr, check=True)
"""


def read(folder, **changes):
    entry, cache = project(folder, **changes)
    return read_sdist(entry, sdist=fetch(entry, cache_dir=cache))


def with_tests(folder, text):
    return read(folder, files=FILES | {"tests/test_core.py": text})


def test_stable_tests_are_those_that_pass_in_five_runs(tmp_path):
    stable = find_stable_tests(read(tmp_path))
    assert len(stable) == 13
    assert "tests/test_core.py::test_largest[values0]" in stable
    assert "tests/test_core.py::test_skipped" not in stable


def test_a_red_suite_is_refused_unless_the_test_is_excluded(tmp_path):
    files = read(tmp_path, files=FILES | {"tests/test_core.py": FAILING})
    with pytest.raises(UserError, match="not green in five runs"):
        find_stable_tests(files)
    assert len(find_stable_tests(files, excluded=["tests/test_core.py::test_red"])) == 13


def test_a_test_that_depends_on_the_hash_seed_is_noticed(tmp_path):
    show = [sys.executable, "-c", "print(hash('a'))"]
    known = subprocess.check_output(show, env={"PYTHONHASHSEED": "0"}, text=True).strip()
    text = f"{TESTS}\n\ndef test_seed():\n    assert hash('a') == {known}\n"
    files = read(tmp_path, files=FILES | {"tests/test_core.py": text})
    with pytest.raises(UserError, match="test_seed"):
        find_stable_tests(files)


def test_a_test_that_is_expected_to_fail_makes_no_suite_red(tmp_path):
    assert len(find_stable_tests(with_tests(tmp_path, TESTS + EXPECTED_TO_FAIL))) == 13


def test_a_test_passes_if_all_its_parts_do(tmp_path):
    runs = run_five_times(with_tests(tmp_path, TESTS + OF_PARTS))
    assert "tests/test_core.py::TestParts::test_parts" in runs.stable_tests
    assert list(runs.red) == ["tests/test_core.py::TestParts::test_broken_part"]


def test_the_first_failing_tests_are_named_with_what_the_first_says():
    tests = {f"test_{n}": "a.py:3: in f\nE   ValueError: 7\nE   more" for n in range(7)}
    assert name_some(tests).endswith("test_4 and 2 more; the first says: ValueError: 7")
    assert find_reason("skipped\n") == "skipped"


def test_a_test_with_another_name_in_each_run_does_not_count(tmp_path):
    text = """

@pytest.mark.parametrize("now", [__import__("time").time_ns()])
def test_now(now):
    assert now
"""
    assert len(find_stable_tests(with_tests(tmp_path, TESTS + text))) == 13


@pytest.mark.mounts  # without namespaces no suite may start processes
def test_fixtures_of_plugins_that_few_suites_use_are_there(tmp_path):
    files = with_tests(tmp_path, TESTS + OF_PLUGINS)
    found = run_five_times(files)
    assert not found.red
    assert {f"tests/test_core.py::{name}" for name in ("test_log", "test_stream")} < {
        *found.stable_tests
    }


@pytest.mark.parametrize("place", ["{}", "class TestOrder:\n{}"], ids=["module", "class"])
def test_a_test_that_needs_another_before_it_is_noticed(tmp_path, place):
    steps = "".join(
        f"def test_step_{n}({{0}}):\n    assert len(SEEN) == {n}\n    SEEN.append({n})\n"
        for n in range(6)
    )
    is_class = place != "{}"
    steps = steps.format("self") if is_class else steps.format("")
    body = textwrap.indent(steps, "    ") if is_class else steps
    text = f"{TESTS}\n\nSEEN = []\n\n{place.format(body)}"
    found = run_five_times(with_tests(tmp_path, text))
    assert any("test_step" in test for test in found.flaky)
    assert len(found.stable_tests) >= 13
    assert sum("test_step" in test for test in found.stable_tests) < 2
