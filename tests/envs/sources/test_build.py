import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.projects.local_folder import open_local
from envs.projects.lock_file import Project
from envs.sources.build import build, describe_set
from envs.sources.long_tasks import LONG_GRAMMAR
from envs.sources.reject_advice import ADVICE, explain_no_task
from envs.sources.synthetic import SyntheticSettings
from envs.tasks.build_report import DIFFERS, MOST_REJECTS, ONE_REACHES, TOO_LONG, BuildReport
from tests.envs.projects.small_project import pack
from tests.envs.projects.test_build_projects import MUTATED, TWO_FILES

ROOT = Path(__file__).resolve().parents[3]
NOTICES_NOTHING = "".join(
    f"""

def add_{n}(left, right):
    if left == right:
        return left * 2
    return left + right
"""
    for n in range(15)
)
COUNTS = {"train": 8, "dev": 0, "test": 0}
BUILD = """
import sys
from pathlib import Path
import pytest

from envs.errors import UserError
from envs.projects.local_folder import open_local
from envs.sources.build import build

lock, cache, out = map(Path, sys.argv[1:])
counts = {"train": 8, "dev": 0, "test": 0}
build("projects", out_dir=out, counts=counts, seed=0, lock=lock, cache_dir=cache)
"""
KILLED_AT = (1, 7)  # bugs that are known of; the second time combined ones are under way


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def known_lines(cache):
    """Return the whole lines of all verdicts in the cache."""
    texts = [path.read_text("utf-8") for path in sorted(cache.glob("mutants/*.jsonl"))]
    return [line for text in texts for line in text.rpartition("\n")[0].splitlines() if line]


def test_a_killed_build_goes_on_and_gives_the_bytes_of_one_with_one_worker(tmp_path):
    lock, packed = pack(tmp_path, TWO_FILES, mutated=MUTATED)
    sets = []
    for name in ("whole", "killed"):
        cache, out = tmp_path / name / "cache", tmp_path / name / "set"
        shutil.copytree(packed, cache)
        kept = []
        for num_known in KILLED_AT if name == "killed" else ():
            command = [sys.executable, "-c", BUILD, str(lock), str(cache), str(out)]
            where = os.environ | {"PYTHONPATH": str(ROOT)}
            with subprocess.Popen(command, cwd=ROOT, env=where) as run:
                while len(known_lines(cache)) < num_known and run.poll() is None:
                    time.sleep(0.01)
                run.send_signal(signal.SIGKILL)
            assert not out.exists()
            assert known_lines(cache)[: len(kept)] == kept
            kept = known_lines(cache)
            assert len(kept) >= num_known
        asked = {"counts": COUNTS, "seed": 0, "workers": 2 if name == "killed" else 1}
        build("projects", out_dir=out, lock=lock, cache_dir=cache, **asked)
        sets.append(contents(out))
    lines = known_lines(cache)
    assert lines[: len(kept)] == kept
    assert len({line.split()[0] for line in lines}) == len(lines)
    assert sets[0] == sets[1]


def test_a_project_of_whose_bugs_none_is_noticed_is_given_up_with_advice(tmp_path):
    calls = "".join(
        f"\ndef test_{n}():\n    for right in (1, 2):\n        more.add_{n // 2}(1, right)\n"
        for n in range(2 * 15)
    )
    files = {"more.py": NOTICES_NOTHING, "test_more.py": f"import more\n{calls}"}
    folder, cache = tmp_path / "mine", tmp_path / "cache"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    notes = []
    with pytest.raises(UserError, match="stopped: no task, and 50 bugs rejected") as caught:
        build(
            "path",
            out_dir=tmp_path / "set",
            counts=COUNTS,
            seed=0,
            cache_dir=cache,
            on_progress=lambda *shown: notes.append(" ".join(map(str, shown))),
            local=open_local(folder, python=None, cache_dir=cache),
        )
    assert "compare results" in caught.value.remedy
    assert "50 no test fails" in caught.value.got
    assert notes[-1] == "tasks 0 8 mine: 49 tried; rejected: 49 no test fails"
    assert not (tmp_path / "set").exists()
    assert len(known_lines(cache)) >= MOST_REJECTS


@pytest.mark.parametrize("reason", [*ADVICE, "leak: gold line in the id", ""])
def test_a_build_without_tasks_advises_what_fits_its_main_reason(reason):
    report = BuildReport()
    for _ in range(3 if reason else 0):
        report.drop("a bug", reason)
    error = explain_no_task(report, source="path")
    assert error.got == (f"3 {reason}" if reason else "")
    assert error.remedy != explain_no_task(BuildReport(), source="path").remedy or not reason


def test_fifty_rejects_for_one_reason_are_many_whatever_stands_between_them():
    report = BuildReport()
    for n in range(MOST_REJECTS):
        report.drop(f"bug {n}", ONE_REACHES)
        report.drop(f"bug {n}", DIFFERS if n % 2 else TOO_LONG)
    assert not report.find_repeated()
    for n in range(MOST_REJECTS // 2):
        report.drop(f"more {n}", DIFFERS)
    assert report.find_repeated() == DIFFERS
    assert "50 bugs rejected" in explain_no_task(report, source="path").what


def test_nothing_asked_for_is_no_build(tmp_path):
    with pytest.raises(UserError, match="no task is asked for"):
        build("synthetic", out_dir=tmp_path / "set", counts=dict.fromkeys(COUNTS, 0), seed=0)


def test_what_is_said_of_a_project_of_ones_own_does_not_depend_on_time_or_folder():
    fixed = dict.fromkeys(("sdist", "sha256", "licence", "licence_file", "licence_sha256"), "")
    fixed |= {"name": "mine", "split": "train", "roots": (), "mutated": ()}
    slow = {"t::a": "slow: 3.1 s in 2 cases", "t::b": "slow: 2.9 s in 1 case"}
    again = {"t::b": "slow: 3.3 s in 1 case", "t::a": "slow: 3.0 s in 2 cases"}
    one = Project(**fixed, version="12ab", suite_s=1.8, excluded_tests=slow)
    two = Project(**fixed, version="34cd", suite_s=1.9, excluded_tests=again)
    told = [describe_set("path", counts=COUNTS, local=(each, {})) for each in (one, two)]
    said = list(map(json.dumps, told))
    assert said[0] == said[1] and '"t::a": "slow"' in said[0]


def test_only_a_set_with_long_tasks_says_so():
    counts = {"train": 1, "dev": 0, "test": 0}
    before = describe_set("synthetic", counts=counts)
    assert set(before) == {
        "asked",
        "num_modules",
        "num_functions",
        "share_two_sites",
        "share_two_lines",
        "num_hidden",
        "min_changed",
    }
    long = describe_set("synthetic", counts=counts, settings=SyntheticSettings(length=(2, 4)))
    said = {"length": (2, 4), "distractors": 1, "generator": LONG_GRAMMAR}
    assert long == before | said
    assert "length" not in describe_set("projects", counts=counts)
    of_projects = describe_set("projects", counts=counts, settings=SyntheticSettings(length=(2,)))
    assert of_projects["length"] == (2,)
