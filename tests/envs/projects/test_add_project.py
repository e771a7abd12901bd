import json
import sys

import pytest

from envs.errors import UserError
from envs.projects.add_project import add
from envs.projects.baseline import find_stable_tests
from envs.projects.lock_file import load_lock, read_sdist
from tests.envs.projects.licence_texts import MIT
from tests.envs.projects.small_project import FILES, TESTS, pack
from tests.envs.sandbox.test_wheels import offer_wheel

MORE = "".join(
    f"\n\ndef test_more_{n}():\n    assert clamp({n}, 0, 50) == {n}\n" for n in range(10)
)
TWO_RED = "\n\ndef test_red_one():\n    assert 0, 'sick'\n\n\ndef test_red_two():\n    assert 0\n"
GOOD = FILES | {"LICENSE": MIT, "tests/test_core.py": TESTS + MORE}
OF_DATA = """

def test_of_data():
    import pathlib
    assert pathlib.Path("calc/data.txt").read_text() == "not Python\\n"
"""
FLAKY = "\n\ndef test_seed():\n    assert hash('a') == {}\n"


def tried(folder, files=GOOD, **asked):
    """Pack an sdist, empty the lock file, add the project; return (entry, lock, cache)."""
    lock, cache = pack(folder, files)
    lock.write_text("{}", "utf-8")
    entry = add("Calc==1.0", split="dev", lock=lock, cache_dir=cache, **asked)
    return entry, lock, cache


def test_a_project_is_pinned_with_what_was_found_out(tmp_path):
    entry, lock, cache = tried(tmp_path)
    assert load_lock(lock) == [entry]
    assert (entry.licence, entry.split, entry.roots) == (
        "MIT",
        "dev",
        ("LICENSE", "calc", "setup.cfg", "tests"),
    )
    assert (entry.mutated, entry.num_tests, entry.data) == (("calc/core.py",), 23, ())
    assert 0 < entry.suite_s < 5
    files = read_sdist(entry, sdist=cache / "sdists" / entry.sdist)
    assert len(find_stable_tests(files, excluded=entry.excluded_tests)) == 23
    with pytest.raises(UserError, match="in the lock file"):
        add("calc==1.0", split="dev", lock=lock, cache_dir=cache)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"LICENSE": "Permission is granted to do anything.\n"}, "LICENSE is not the text"),
        ({"LICENSE": None}, "no licence file"),
        ({"PKG-INFO": "Name: calc\nLicense: GPL\n\n"}, "metadata say: License: GPL"),
        ({"calc/fast.pyx": ""}, "not pure Python: calc/fast.pyx"),
        ({"tests/test_core.py": None}, "no tests"),
        ({"tests/test_core.py": TESTS}, "13 tests that pass in every run, fewer than 20"),
        ({"tests/conftest.py": "import missing_thing\n"}, "No module named 'missing_thing'"),
        ({"tests/test_slow.py": "while True:\n    pass\n"}, "its suite hangs"),
    ],
    ids=["licence", "no licence", "metadata", "compiled", "no tests", "few", "conftest", "slow"],
)
def test_what_gives_no_tasks_is_refused_with_the_reason(tmp_path, monkeypatch, changes, says):
    monkeypatch.setattr("envs.projects.admission.FIRST_LIMIT_S", 4.0)
    files = {path: text for path, text in (GOOD | changes).items() if text is not None}
    with pytest.raises(UserError, match=says):
        tried(tmp_path, files)
    assert json.loads((tmp_path / "projects.lock.json").read_text("utf-8")) == {}


def test_the_slowest_tests_are_left_out_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("envs.projects.add_project.MAX_SUITE_CPU_S", 3.0)
    slow = "import time\nimport pytest\n\n\n@pytest.mark.parametrize('n', range(2))\n"
    slow += "def test_wait(n):\n    time.sleep(2)\n"
    entry, *_ = tried(tmp_path / "left", GOOD | {"tests/test_wait.py": slow})
    assert entry.num_tests == 23
    (reason,) = entry.excluded_tests.values()
    assert reason.startswith("slow: 4.") and reason.endswith("s in 2 cases")
    wait = "@pytest.fixture(autouse=True)\ndef wait():\n    __import__('time').sleep(0.4)\n\n\n"
    slow_all = GOOD["tests/test_core.py"].replace("def shuffled", wait + "def shuffled", 1)
    with pytest.raises(UserError, match=r"too slow: .* at most 3; the slowest: tests/test_core"):
        tried(tmp_path / "all", GOOD | {"tests/test_core.py": slow_all})


def test_few_red_tests_are_left_out_many_are_named(tmp_path):
    files = GOOD | {"tests/test_core.py": TESTS + MORE + TWO_RED}
    entry, *_ = tried(tmp_path / "left", files)
    assert entry.num_tests == 23
    assert "sick" in entry.excluded_tests["tests/test_core.py::test_red_one"]
    entry, *_ = tried(tmp_path / "one", files, exclude=["tests/test_core.py::test_red_one"])
    assert entry.excluded_tests["tests/test_core.py::test_red_one"] == "excluded by hand"
    files = GOOD | {"tests/test_core.py": TESTS + MORE + TWO_RED + TWO_RED.replace("red", "ill")}
    with pytest.raises(UserError, match=r"4 of 27 tests fail.*test_ill_one.*test_red_two.*sick"):
        tried(tmp_path / "refused", files)


def test_flaky_tests_are_left_out_with_the_reason(tmp_path, monkeypatch):
    import subprocess

    show = [sys.executable, "-c", "print(hash('a'))"]
    known = subprocess.check_output(show, env={"PYTHONHASHSEED": "0"}, text=True).strip()
    files = GOOD | {"tests/test_core.py": TESTS + MORE + FLAKY.format(known)}
    entry, *_ = tried(tmp_path, files)
    assert entry.excluded_tests["tests/test_core.py::test_seed"].startswith("flaky: ")
    assert entry.num_tests == 23


def test_files_with_few_places_for_bugs_are_left_alone(tmp_path):
    more = {"calc/names.py": "RED = 1\n", "calc/old.py": "print 1\n"}
    entry, *_ = tried(tmp_path, GOOD | more)
    assert entry.mutated == ("calc/core.py",)


def test_data_files_are_taken_if_tests_need_them(tmp_path):
    entry, *_ = tried(tmp_path, GOOD | {"tests/test_core.py": TESTS + MORE + OF_DATA})
    assert (entry.data, entry.num_tests) == (("",), 24)


def test_what_tests_need_is_pinned_and_installed(tmp_path, monkeypatch):
    offer_wheel(tmp_path / "index", monkeypatch, name="extra")
    files = GOOD | {"tests/test_core.py": "import extra\n" + TESTS + MORE}
    with pytest.raises(UserError, match="No module named 'extra'") as caught:
        tried(tmp_path / "without", files)
    assert "--requires" in caught.value.remedy
    entry, _, cache = tried(tmp_path / "with", files, requires=["extra"])
    assert entry.requirements[0].startswith("extra==1.0 --hash=sha256:")
    assert entry.num_tests == 23
    assert list((cache / "wheels").glob("*/extra.py"))


@pytest.mark.network
def test_a_project_of_the_index_is_added(tmp_path):
    lock = tmp_path / "lock.json"
    lock.write_text("{}", "utf-8")
    entry = add("simpleeval==1.0.8", split="train", lock=lock, cache_dir=tmp_path)
    assert entry.num_tests >= 150
