import pytest

from envs.tasks.suite_files import find_suite, is_doctest


@pytest.mark.parametrize(
    ("paths", "tests", "suite"),
    [
        (
            ["calc/__init__.py", "calc/core.py", "tests/test_core.py", "tests/data/x.json"],
            ["tests/test_core.py::test_it"],
            {"tests/test_core.py", "tests/data/x.json"},
        ),
        (
            ["calc/core.py", "calc/test_core.py", "calc/test_utils.py", "conftest.py"],
            ["calc/test_core.py::test_it"],
            {"calc/test_core.py", "conftest.py"},
        ),
        (
            ["calc.py", "check_calc.py", "setup.py"],
            ["check_calc.py::check_it"],
            {"check_calc.py"},
        ),
        (
            ["calc/core.py", "checks/check_core.py", "checks/__init__.py", "checks/words.txt"],
            ["checks/check_core.py::check_it[1]"],
            {"checks/check_core.py", "checks/__init__.py", "checks/words.txt"},
        ),
        (
            ["calc/core.py", "calc/tests.py", "test_core.py"],
            ["test_core.py::test_it", "calc/core.py::calc.core.total", "README.md::README.md"],
            {"test_core.py"},
        ),
    ],
    ids=["tests folder", "beside the code", "module", "folder of another name", "doctests"],
)
def test_a_suite_is_what_holds_tests_and_what_stands_with_them(paths, tests, suite):
    assert find_suite(dict.fromkeys(paths, ""), tests) == suite


def test_doctests_are_known_by_their_names():
    files = {"tests/test_add.py": "def test_add():\n    pass\n", "calc.py": "def calc_it(): ...\n"}
    assert is_doctest("src/acme/calc/core.py::acme.calc.core.total", files)
    assert is_doctest("calc/__init__.py::calc.total", files)
    assert is_doctest("calc.py::calc", files)
    assert is_doctest("docs/usage.rst::usage.rst", files)
    assert not is_doctest("tests/test_core.py::TestCore::test_it[calc.core]", files)
    assert not is_doctest("tests/test_add.py::test_add[1]", files)


def test_a_folder_named_testing_without_tests_is_none_of_the_suite():
    files = dict.fromkeys(["calc/core.py", "calc/testing/checks.py", "tests/test_core.py"], "")
    assert find_suite(files, ["tests/test_core.py::test_it"]) == {"tests/test_core.py"}
