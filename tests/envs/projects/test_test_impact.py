import json
import subprocess
import sys
import textwrap

import pytest

from envs.mutation.operators import Mutation, list_mutations
from envs.projects import baseline as baseline_module
from envs.projects.baseline import measure_baseline
from envs.projects.lock_file import fetch, read_sdist
from envs.projects.test_impact import TestImpact, _TracedSource
from envs.sandbox.child_coverage import LINES_PER_FILE, read_trace
from envs.sandbox.fork_server import ForkServer
from tests.envs.projects.small_project import LICENCE, project

CORE = """import functools


def at_import():
    return 3


LIMIT = at_import()


def of_module():
    return 10


def of_test():
    return 4


@functools.lru_cache
def memo():
    return 5


def branch(flag):
    if flag:
        return 20
    return 30


def never():
    return 0


def rounds(number):
    total = 0
    for each in range(number):
        if each < 0:
            total = 8
        total += 1
    return total
"""
TESTS = """import subprocess
import sys

import pytest

from calc import core


@pytest.fixture(scope="module")
def shared():
    return core.of_module()


@pytest.fixture
def own():
    return core.of_test()


def through():
    return core.branch(False)


def test_one():
    assert [core.branch(flag) for flag in (True,)][0] + core.memo() == 25


def test_two(own):
    assert through() + core.memo() + own == 39


def test_three(shared):
    assert shared == 10


def test_few_rounds():
    assert core.rounds(9) == 9


def test_many_rounds():
    assert core.rounds(3000) == 3000
    assert core.rounds(3) == 3


def test_that_takes_the_tracer_away():
    sys.settrace(None)


def test_that_starts_a_process():
    with pytest.raises(OSError):
        subprocess.run(["/nothing"])
"""
NEW = {"flag:": "not flag:", "total += 1": "total += 2", "total = 8": "total = 9"}
UNTRACED = {"that_takes_the_tracer_away", "that_starts_a_process"}
ALL = {"one", "two", "three", "few_rounds", "many_rounds"} | UNTRACED
FUNCTION = """x = 1


def plain(flag):
    if flag:
        x = 2
    elif (
        flag is None and
        not x
    ):
        x = 3
    else:
        x += 1
    return x


def lazy(flag):
    if flag:
        yield 1


def outer(flag):
    if flag:
        y = 2

    def inner():
        return y if flag else x

    return inner
"""


def change(text, old, new, *, path="calc/core.py"):
    assert text.count(old) == 1
    start = text.index(old)
    line = text.count("\n", 0, start) + 1
    return Mutation("change", path, start, start + len(old), new, "f", line)


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    files = {"LICENSE": LICENCE, "calc/core.py": CORE, "tests/test_core.py": TESTS}
    entry, cache = project(tmp_path_factory.mktemp("traced"), files)
    tree = read_sdist(entry, sdist=fetch(entry, cache_dir=cache))
    with ForkServer(preload="pytest") as server:
        asked = {"server": server, "cache_dir": cache}
        yield measure_baseline(entry, files=tree, **asked), entry, tree, asked


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ("return 3\n", ALL),
        ("return 10", ALL),
        ("return 4", {"two"} | UNTRACED),
        ("return 5", ALL),
        ("return 20", {"one"} | UNTRACED),
        ("return 30", {"two"} | UNTRACED),
        ("flag:", {"one", "two"} | UNTRACED),
        ("return 0", UNTRACED),
        ("total += 1", {"few_rounds", "many_rounds"} | UNTRACED),
        ("total = 8", {"many_rounds"} | UNTRACED),  # of what goes round so often, all lines count
    ],
    ids=[
        "import",
        "shared fixture",
        "own fixture",
        "memo",
        "then",
        "else",
        "condition",
        "never",
        "few rounds",
        "many rounds",
    ],
)
def test_a_bug_is_reached_by_the_tests_that_execute_it(traced, old, expected):
    found = traced[0].impact.select_tests([change(CORE, old, NEW.get(old, "return None\n"))])
    assert {name.partition("::test_")[2] for name in found} == expected


@pytest.mark.parametrize(
    ("old", "tests", "expected"),
    [
        ("return 20", ["one"], 1),
        ("return 20", ["two"], 2),
        ("return 20", ["two", "one"], 1),
        ("return 20", ["three"], None),
        ("return 4", ["two"], 1),
        ("return 5", ["one"], 1),
        ("return 0", ["one", "two", "three"], None),
    ],
    ids=["in a list", "through another", "nearest", "not called", "fixture", "cached", "never"],
)
def test_how_many_calls_are_between_a_test_and_a_bug(traced, old, tests, expected):
    names = [f"tests/test_core.py::test_{name}" for name in tests]
    bug = [change(CORE, old, "return None")]
    assert traced[0].impact.measure_distance(bug, tests=names) == expected


def test_who_makes_calls_without_end_counts_as_one_that_executes_all(tmp_path):
    (tmp_path / "calc.py").write_text("def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    written = run_traced(
        f"""
        import json, sys
        sys.path.insert(0, {str(tmp_path)!r})
        from envs.sandbox import child_coverage
        import calc
        child_coverage.ENOUGH, child_coverage.MANY_CALLS = 5, 10
        written = {{}}
        trace = child_coverage.LineTrace(
            [calc.__file__], backwards=False, write=written.__setitem__
        )
        trace.start()
        for test, times in (("few", 14), ("many", 19), ("again", 1)):
            trace.pytest_runtest_logstart()
            trace.pytest_runtest_call()
            for _ in range(times):
                calc.one()
            trace.pytest_runtest_logfinish(test)
        trace.finish()
        print(json.dumps(written))
        """
    )
    assert {test: lines for test, (lines, _) in written.items()} == {
        "few": {1, 2},
        "many": None,
        "again": {1, 2},
        "": set(),
    }


def run_traced(program):
    line = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return {test: read_trace(text) for test, text in json.loads(done.stdout).items()}


def test_a_suite_is_run_once_and_again_if_what_is_kept_is_damaged(traced, monkeypatch):
    known, entry, tree, asked = traced

    def fail(*_, **__):
        raise RuntimeError("it runs")

    monkeypatch.setattr(baseline_module, "run_until_green", fail)
    again = measure_baseline(entry, files=tree, **asked)
    assert (again.stable_tests, again.cpu_s) == (known.stable_tests, known.cpu_s)
    with pytest.raises(RuntimeError):
        measure_baseline(entry, files=tree | {"tests/test_more.py": ""}, **asked)
    (path,) = (asked["cache_dir"] / "mutants").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RuntimeError):
        measure_baseline(entry, files=tree, **asked)


def reach(**lines):
    """Return the reach of tests that execute these lines of FUNCTION."""
    trace = {"": "1 4 17 22"} | {name: " ".join(map(str, told)) for name, told in lines.items()}
    return TestImpact(
        {"f.py": FUNCTION}, paths=["f.py"], stable_tests=list(lines), traces=[trace, trace]
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("x = 2\n", "x = 4\n", {"yes"}),
        ("        not x\n", "        x\n", {"no"}),
        ("x = 3", "x = 4", set()),
        ("yield 1", "yield 2", {"yes"}),
        ("yield 1", "return 1", {"yes", "no"}),
        ("y = 2", "pass", {"yes", "no"}),
        ("else:\n", "else :\n", {"yes", "no", "elsewhere"}),
        ("yield 1", "yield 1 = 2", {"yes", "no", "elsewhere"}),
        ("x = 1\n", "x = 2\n", {"yes", "no", "elsewhere"}),
    ],
    ids=[
        "statement",
        "one of several lines",
        "nowhere",
        "same kind",
        "generator to function",
        "local to global",
        "no statement",
        "no Python",
        "module",
    ],
)
def test_what_a_change_reaches_beyond_its_lines(old, new, expected):
    found = reach(
        yes=[5, 6, 14, 18, 19, 23, 24, 26, 29],
        no=[5, 7, 8, 9, 13, 14, 18, 23, 26, 29],
        elsewhere=[LINES_PER_FILE + 5],
    )
    assert found.select_tests([change(FUNCTION, old, new, path="f.py")]) == expected


def test_lines_between_two_statements_belong_to_both():
    start = FUNCTION.index("    return x\n")
    put_between = Mutation("change", "f.py", start, start, "    x = 9\n", "plain", 14)
    assert reach(above=[13], below=[14], other=[5]).select_tests([put_between]) == {
        "above",
        "below",
    }


def test_a_test_without_a_trace_reaches_everything_and_so_do_all_without_the_shared_lines():
    mutation = change(FUNCTION, "x = 3", "x = 4", path="f.py")
    tests = ["one", "two"]
    for trace, expected in [({"": "", "one": "5"}, {"two"}), ({"one": "5", "two": "5"}, {*tests})]:
        found = TestImpact({"f.py": FUNCTION}, paths=["f.py"], stable_tests=tests, traces=[trace])
        assert found.select_tests([mutation]) == expected


def test_a_bug_of_several_mutations_is_reached_by_each_test_that_reaches_one():
    both = [
        change(FUNCTION, old, new, path="f.py")
        for old, new in [("x = 3", "x = 4"), ("yield 1", "yield 2")]
    ]
    assert reach(one=[11], two=[19], three=[5]).select_tests(both) == {"one", "two"}


def test_what_a_test_executed_is_told_from_how_far_it_is():
    assert read_trace("4-6 9|3:1 11:2") == (frozenset({4, 5, 6, 9}), {3: 1, 11: 2})
    assert read_trace("*|3:1") == (None, {3: 1})
    assert read_trace("7") == (frozenset({7}), {})


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=["CRLF", "CR"])
@pytest.mark.parametrize("head", ["", "\ufeff", "\x0c# \u2028\x85\n"], ids=["plain", "BOM", "odd"])
def test_lines_of_a_mutation_do_not_depend_on_line_ends(head, end):
    plain = head + CORE
    text = plain.replace("\n", end)
    found, usual = list_mutations(text, path="x.py"), list_mutations(plain, path="x.py")
    assert len(found) == len(usual) > 10
    source, expected = _TracedSource(text), _TracedSource(plain)
    for one, other in zip(found, usual, strict=True):
        assert source.find_lines(one) == expected.find_lines(other)
        assert source.find_function(one) == expected.find_function(other)
