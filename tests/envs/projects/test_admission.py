import re

import pytest

from envs.errors import UserError
from envs.grading.test_suite import run_suite
from envs.projects import admission, baseline
from envs.projects.baseline import measure_baseline
from envs.projects.local_folder import open_local
from envs.projects.refusal import Command, Refusal, name_groups
from envs.sandbox.fork_server import ForkServer
from tests.envs.projects.small_project import FILES, TESTS

MORE = "".join(
    f"\n\ndef test_more_{n}():\n    assert clamp({n}, 0, 50) == {n}\n" for n in range(10)
)
COUNTS = "import time\n\n\ndef count():\n    end = time.process_time() + {}\n"
COUNTS += "    while time.process_time() < end:\n        pass\n\n\n"


@pytest.fixture
def opened(tmp_path):
    def make(**tests):
        files = FILES | {"tests/test_core.py": TESTS + MORE}
        files |= {f"tests/{name}.py": text for name, text in tests.items()}
        for path, text in files.items():
            (tmp_path / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mine" / path).write_text(text, "utf-8")

        def open_it(**asked):
            return open_local(
                tmp_path / "mine", **{"python": None, "cache_dir": tmp_path / "cache"} | asked
            )

        return open_it

    return make


def test_a_suite_is_run_eight_times_and_not_again_by_the_build(opened, tmp_path, monkeypatch):
    told = []

    def counted(*args, **asked):
        told.append("trace" in asked)
        return run_suite(*args, **asked)

    monkeypatch.setattr(admission, "run_suite", counted)
    monkeypatch.setattr(baseline, "run_suite", counted)
    open_it = opened()
    entry, files = open_it()
    assert (told.count(False), told.count(True)) == (6, 2)
    assert open_it(split="test") == (entry.model_copy(update={"split": "test"}), files)
    with ForkServer(preload="pytest") as server:
        cache = tmp_path / "cache"
        suite = measure_baseline(entry, files=files, server=server, cache_dir=cache)
    assert len(told) == 8
    assert (len(suite.stable_tests), suite.cpu_s) == (entry.num_tests, entry.suite_s)


def test_a_first_look_waits_for_no_slow_test_and_says_which_they_are(opened):
    slow = COUNTS.format(20) + "import unittest\n\n\ndef test_slow():\n    count()\n\n\n"
    slow += "class TestIt(unittest.TestCase):\n    def test_slow(self):\n        count()\n\n\n"
    slow += "def test_again():\n    for _ in range(30):\n        try:\n            count()\n"
    slow += "        except BaseException:\n            pass\n\n\n"
    slow += (
        "def test_stubborn():\n    try:\n        count()\n    except BaseException:\n        pass\n"
    )
    entry, _ = opened(test_slow=slow)(suite_s=1.0)
    assert sorted(entry.excluded_tests) == [
        "tests/test_slow.py::TestIt::test_slow",
        "tests/test_slow.py::test_again",
        "tests/test_slow.py::test_slow",
        "tests/test_slow.py::test_stubborn",
    ]
    assert all(reason.startswith("slow: ended after") for reason in entry.excluded_tests.values())
    assert entry.num_tests == 23


def test_a_test_that_hangs_once_others_are_left_out_is_left_out_too(opened):
    hangs = "TIMES = [1]\n\n\ndef test_far():\n    TIMES[0] = 10**10\n\n\n"
    hangs += "def test_near():\n    TIMES[0] = 1\n    for _ in range(10**10):\n        pass\n\n\n"
    hangs += "def test_rounds():\n    for _ in range(TIMES[0]):\n        pass\n"
    entry, _ = opened(test_hangs=hangs)(suite_s=1.0)
    reasons = {test.rpartition("_")[2]: why for test, why in entry.excluded_tests.items()}
    assert reasons.keys() == {"near", "rounds"}
    assert reasons["near"].startswith("slow: ended after")
    assert reasons["rounds"] == "flaky: took too long with the tests that stay"


def test_who_may_reach_everything_and_takes_long_is_left_out(opened):
    heavy = "import sys\n" + COUNTS.format(0.5)
    heavy += "def test_heavy():\n    sys.settrace(None)\n    count()\n\n\n"
    heavy += "def test_light():\n    sys.settrace(None)\n\n\ndef test_known():\n    count()\n"
    entry, _ = opened(test_heavy=heavy)(suite_s=2.0)
    ((test, reason),) = entry.excluded_tests.items()
    assert test == "tests/test_heavy.py::test_heavy"
    assert re.fullmatch(r"slow: 0\.\d s for every bug, since what it reaches .*", reason)
    assert entry.num_tests == 25


def test_what_is_not_reached_in_time_is_left_out(opened):
    many = COUNTS.format(0.1) + "import pytest\n\n\n"
    many += "\n\n".join(f"def test_{n}():\n    count()\n" for n in range(30))
    entry, _ = opened(test_many=many)(suite_s=0.4)
    reasons = list(entry.excluded_tests.values())
    assert "slow: those before it took 2 s" in reasons
    assert entry.num_tests >= 23 and entry.suite_s < 1.5


def test_tests_fail_in_vain_if_another_was_ended(opened):
    """What ending a test breaks is no fault of the tests behind it."""
    text = COUNTS.format(20) + "HELD = []\n\n\ndef test_holds():\n    HELD.append(1)\n    count()\n"
    text += "    HELD.clear()\n\n\n"
    text += "\n\n".join(f"def test_{n}():\n    assert not HELD\n" for n in range(9))
    entry, _ = opened(test_held=text)(suite_s=1.0)
    assert list(entry.excluded_tests) == ["tests/test_held.py::test_holds"]


def test_one_refusal_says_all_and_the_command_that_would_work(opened):
    red = "\n\n".join(f"def test_{n}():\n    assert 0, 'sick'\n" for n in range(5))
    wait = "import time\nimport pytest\n\n\n@pytest.fixture(autouse=True)\ndef wait():\n"
    wait += "    time.sleep(0.1)\n\n\n" + TESTS + MORE
    open_it = opened(test_red=red, test_core=wait)
    with pytest.raises(UserError) as caught:
        open_it(suite_s=1.0, exclude=["tests/test_cor.py", "test_clamp"])
    said = str(caught.value)
    assert "no such test to exclude: tests/test_cor.py" in said
    assert "did you mean tests/test_core.py::test_clamp" in said
    assert "5 of 28 tests fail" in said and "sick" in said
    assert "too slow" in said
    command = said.partition("Try: tightrope ")[2].split()
    assert command[:4] == ["tasks", "build", "--source", "path"]
    at = command.index("--exclude")
    excluded, seconds = command[at + 1 : command.index("--suite-seconds")], float(command[-1])
    assert "tests/test_red.py" in excluded
    entry, _ = open_it(suite_s=seconds, exclude=["tests/test_red.py"])
    assert entry.num_tests == 23


def test_a_folder_without_tests_is_refused_for_that_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "calc.py").write_text(FILES["calc/core.py"])
    told = []
    with pytest.raises(UserError, match=r"gives no tasks: no tests\. "):
        open_local(tmp_path / "mine", python=None, cache_dir=tmp_path / "cache", on_run=told.append)
    assert told == ["as its authors run it"]


def test_no_command_is_offered_where_none_would_help():
    refusal = Refusal("calc", Command(["tightrope"], [], 30.0))
    refusal.stop()
    refusal.add("too slow", remedy="allow more", suite_s=40.0)
    refusal.add("no tests", remedy="write some")
    with pytest.raises(UserError) as caught:
        refusal.stop()
    assert "too slow; and no tests" in str(caught.value)
    assert "tightrope" not in str(caught.value)


def test_names_stand_for_the_tests_that_are_meant_only():
    tests = ["a.py::f[1]", "a.py::f[2]", "b.py::g[1]", "b.py::h", "c.py::k"]
    tests += ["d/e/f.py::g", "d/h.py::i"]
    names = ["a.py", "b.py::g[1]", "b.py::h", "c.py::k", "d"]
    assert name_groups(tests, ["b.py::g[2]", "c.py::m"]) == names
