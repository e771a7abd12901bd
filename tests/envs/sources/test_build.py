import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from envs.sources.build import build
from tests.envs.projects.small_project import pack
from tests.envs.projects.test_build_projects import MUTATED, TWO_FILES

ROOT = Path(__file__).resolve().parents[3]
COUNTS = {"train": 8, "dev": 0, "test": 0}
BUILD = """
import sys
from pathlib import Path
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
