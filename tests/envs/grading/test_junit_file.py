"""The junit file of a run says what pytest wrote, and nothing if it is no file of pytest's."""

import subprocess
import sys

import pytest

from envs.grading.junit_file import JunitReport, read_junit

SUITE = """\
import unittest
import pytest

@pytest.mark.parametrize("text", ["a b", "\\u00e9", "x::y[z]", "\\x07", '<"&', "a/b.py"])
def test_texts(text):
    pass

class TestA:
    class TestB:
        def test_inner(self, record_property):
            record_property("failure", "none")

class TestUnits(unittest.TestCase):
    def test_parts(self):
        for number in range(2):
            with self.subTest(number=number):
                pass
    def test_wrong_part(self):
        for number in range(2):
            with self.subTest(number=number):
                self.assertEqual(number, 0)

def test_wrong():
    assert 0, "]]>\\x01</testcase>"

@pytest.fixture
def late():
    yield
    assert 0
def test_late(late):
    pass

@pytest.fixture
def early():
    assert 0
def test_early(early):
    pass

def test_skipped():
    pytest.skip()
@pytest.mark.xfail
def test_expected():
    assert 0
"""
RIGHT = ["TestA::TestB::test_inner", "TestUnits::test_parts"]
RIGHT += [f"test_texts[{text}]" for text in (
    "a b", "\\xe9", "x::y[z]", "\\x07", '<"&', "a/b.py"
)]  # fmt: skip
WRONG = ["TestUnits::test_wrong_part", "test_wrong", "test_late", "test_early"]
OTHER = ["test_skipped", "test_expected"]


def test_outcomes_are_those_of_pytest(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "test_all.py").write_text(SUITE, "utf-8")
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir=.", "--tb=no"]
    line = [sys.executable, "-m", "pytest", *options, "-o", "junit_family=xunit1"]
    names = [*RIGHT, *WRONG, *OTHER]
    ids = [f"in/test_all.py::{name}" for name in names]
    subprocess.run([*line, "--junit-xml=told.xml", *ids], cwd=tmp_path, capture_output=True)
    told = read_junit((tmp_path / "told.xml").read_text("utf-8"), [*ids, "in/test_all.py::no"])
    assert {test_id.partition("::")[2] for test_id in told.passed} == {*RIGHT}
    assert {test_id.partition("::")[2] for test_id in told.failed} == {*WRONG}


def write(*cases):
    """Return a file of so many cases of one name, each with what stands in it."""
    told = "".join(f'<testcase classname="a.b" name="c">{case}</testcase>' for case in cases)
    return f'<?xml version="1.0" encoding="utf-8"?><testsuites>{told}</testsuites>'


@pytest.mark.parametrize(
    ("ids", "cases", "passed", "failed"),
    [
        (["a/b.py::c"], [""], 1, 0),
        (["a/b.py::c"], ["<failure/>"], 0, 1),
        (["a/b.py::c"], ["<failure/><skipped/>"], 0, 1),
        (["a/b.py::c"], ["", "<error/>"], 0, 0),
        (["a/b.py::c"], ["", ""], 0, 0),
        (["a/b.py::c", "a.py::b::c"], [""], 0, 0),
        (["a/b.py::c", "a.py::b::c"], ["", ""], 2, 0),
        (["a/b.py::c", "a.py::b::c"], ["<error/>", "<failure/>"], 0, 2),
        (["a/b.py::d"], [""], 0, 0),
    ],
)
def test_tests_of_one_name_count_together(ids, cases, passed, failed):
    told = read_junit(write(*cases), ids)
    assert (len(told.passed), len(told.failed)) == (passed, failed)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b c passed",
        write("")[:-1],
        write("") + "more",
        write("").replace("?>", f"?>{BOMB}"),
        write("<testcase classname='a.b' name='c'/>"),
        write("\ud800\x00"),
        write("&b;"),
    ],
    ids=["none", "text", "cut", "more", "entities", "nested", "characters", "unknown"],
)
def test_what_is_malformed_tells_nothing(text):
    assert read_junit(text, ["a/b.py::c"]) == JunitReport()


def test_depth_is_no_trouble():
    assert read_junit(write("<a>" * 10**5), ["a/b.py::c"]) == JunitReport()
