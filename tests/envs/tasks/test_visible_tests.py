import ast

import pytest

from envs.source_text import BOM
from envs.tasks.visible_tests import count_cases, keep_case, keep_tests, show_tests

TEXT = '''"""Tests of calc."""
import pytest
from calc import add, sub

ANSWERS = {1: 2, 2: 3}
SHIFT = 10


def inc(x):
    return x + SHIFT


def only_for_hidden(x):
    return ANSWERS[x]


@pytest.fixture
def one():
    return 1


@pytest.mark.parametrize("x", [1, 2])
def test_add(x):  # shown
    assert add(x, 1) == inc(x) - 9


@pytest.mark.parametrize(
    "x",
    [1, 2],
)
def test_sub(x):
    assert sub(x, 1) == only_for_hidden(x)


class TestCalc:
    kind = int

    def test_kind(self):
        assert isinstance(add(1, 1), self.kind)

    def test_add(self, one):
        assert add(one, 1) == 2


class TestMore(TestCalc):
    def test_last(self):
        assert sub(2, 1) == 1
'''


def test_a_class_of_any_name_stays_with_the_tests_that_are_shown():
    text = "class Describe:\n    def it_adds(self):\n        assert 1\n\n    def it_subs(self):\n"
    text += "        assert 2\n\n\nclass Other:\n    def it_is_hidden(self):\n        assert 3\n"
    kept = keep_tests(text, names={"it_adds"}, prefixes=("it_*",))
    assert kept == "class Describe:\n    def it_adds(self):\n        assert 1\n"


def test_hidden_tests_and_what_only_they_use_are_gone():
    kept = keep_tests(TEXT, names={"test_add"})
    for word in ("test_sub", "test_kind", "test_last", "only_for_hidden", "ANSWERS"):
        assert word not in kept


def test_the_rest_stays_as_it_was():
    kept = keep_tests(TEXT, names={"test_add"})
    lines = TEXT.splitlines()
    assert [line for line in kept.splitlines() if line not in lines] == ["    pass"]
    names = {node.name for node in ast.parse(kept).body if hasattr(node, "name")}
    assert names == {"inc", "one", "test_add", "TestCalc", "TestMore"}
    assert "SHIFT = 10" in kept
    assert "# shown" in kept


def test_a_file_that_others_import_keeps_its_helpers():
    kept = keep_tests(TEXT, names={"test_add"}, whole=True)
    assert "ANSWERS" in kept
    assert "def only_for_hidden" in kept
    assert "test_sub" not in kept


def test_keeping_all_tests_changes_nothing():
    names = {"test_add", "test_sub", "test_kind", "test_last"}
    assert keep_tests(TEXT, names=names) == TEXT


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("head", ["", BOM, "# coding: latin-1\n", "\x0c\n# \x1c\x85\u2028\n"])
def test_a_file_with_other_line_ends_or_a_bom_is_cut_alike(end, head):
    head = head.replace("\u2028", "") if "coding" in head else head
    for names in ({"test_add"}, {"test_sub"}, set()):
        cut = keep_tests((head + TEXT).replace("\n", end), names=names)
        assert cut == (head + keep_tests(TEXT, names=names)).replace("\n", end)


def test_unittest_classes_stay_whatever_their_names():
    text = """import unittest


class Steps:
    def test_step(self):
        assert 1

    def test_other(self):
        assert 1


class StepsTest(unittest.TestCase, Steps):
    pass


class Walk(unittest.TestCase):
    def test_step(self):
        assert 1


class Unused:
    pass
"""
    kept = keep_tests(text, names={"test_step"})
    assert "class StepsTest(" in kept and "class Walk(" in kept and "def test_step" in kept
    assert "class Unused" not in kept and "test_other" not in kept


def test_modules_of_the_suite_that_the_visible_test_imports_stay():
    inner = "from tests.deep import tools\n\n\ndef test_of_mixin():\n    pass\n"
    files = {
        "calc/core.py": "x = 1\n",
        "conftest.py": "",
        "tests/__init__.py": "",
        "tests/base.py": inner,
        "tests/data.json": "{}",
        "tests/deep/__init__.py": "",
        "tests/deep/conftest.py": "",
        "tests/deep/tools.py": "y = 2\n",
        "tests/other.py": "answers = 3\n",
        "tests/test_a.py": "from .base import Base\n\n\ndef test_a():\n    pass\n",
        "tests/test_b.py": "import other\n\n\ndef test_b():\n    pass\n",
    }
    kept = show_tests(files, [("tests/test_a.py", "test_a")])
    gone = {"tests/data.json", "tests/other.py", "tests/test_b.py"}
    assert files.keys() - kept.keys() == gone
    assert kept["tests/base.py"] == "from tests.deep import tools\n"
    assert kept["tests/test_a.py"] == files["tests/test_a.py"]


def test_data_of_the_suite_that_is_no_python_of_today_stays_hidden():
    files = {
        "tests/test_a.py": "import string\n\n\ndef test_a():\n    pass\n",
        "tests/samples/string.py": "print 'of another Python'\n",
    }
    assert show_tests(files, [("tests/test_a.py", "test_a")]).keys() == {"tests/test_a.py"}


def test_several_functions_may_be_shown_each_in_its_own_file():
    both = "def test_it():\n    pass\n\n\ndef test_other():\n    pass\n"
    files = {f"tests/test_{name}.py": both for name in "abc"}
    shown = [("tests/test_a.py", "test_it"), ("tests/test_b.py", "test_other")]
    kept = show_tests(files, shown)
    assert kept.keys() == {path for path, _ in shown}
    for path, name in shown:
        assert kept[path] == f"def {name}():\n    pass\n"
    whole = [("tests/test_a.py", "test_it"), ("tests/test_a.py", "test_other")]
    assert show_tests(files, whole) == {"tests/test_a.py": both}


CASES = """import pytest


@pytest.mark.parametrize("value, due", [(1, "\u00e9"), (2, [3]), pytest.param(4, 5, id="x")])
def test_it(value, due):
    assert value != due
"""


def test_a_function_is_shown_with_one_of_its_cases():
    assert count_cases(CASES, "test_it") == 3
    kept = [keep_case(CASES, "test_it", number) for number in range(3)]
    assert [text.partition('due", ')[2].partition(")\ndef")[0] for text in kept] == [
        '[(1, "\u00e9")], ids=["case0"]',
        '[(2, [3])], ids=["case1"]',
        '[pytest.param(4, 5, id="x")], ids=["case2"]',
    ]
    assert all(count_cases(text, "test_it") == 0 for text in kept)


@pytest.mark.parametrize(
    "change",
    [
        ("[(1,", "CASES + [(1,"),
        (")\ndef", ", ids=str)\ndef"),
        ("@pytest", "@pytest.mark.parametrize('x', [1, 2])\n@pytest"),
        ("[(1,", "[*CASES, (1,"),
        ("def test_it", "def test_other"),
    ],
    ids=["computed", "ids", "two lists", "starred", "another name"],
)
def test_cases_that_cannot_be_told_apart_are_none(change):
    assert count_cases(CASES.replace(*change), "test_it") == 0
