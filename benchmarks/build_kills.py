"""Kills `tasks build` at random moments, each time starts it anew, and compares the results.

    python benchmarks/build_kills.py --out benchmarks/results/build_kills.md

Three projects of the lock file, combined bugs included; 5 to 10 minutes on 2 idle cores. Both
builds begin without a cache but for the sdists; the undisturbed one has one worker, the other one
two. A moment is a random share of the bugs that the undisturbed build tried, and up to a second
more. The final directories must be the same, byte for byte, and no bug tried to its end twice.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = "inflection,parse,toolz"
BUILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from envs.sources.build import build

lock, cache, out = map(Path, sys.argv[2:5])
build("projects", out_dir=out, counts=json.loads(sys.argv[5]), seed=0, lock=lock, cache_dir=cache,
      workers=int(sys.argv[6]))
"""


def command(folder: Path, name: str, counts: dict[str, int], workers: int) -> list[str]:
    """Return the command that builds `name`."""
    place = [str(folder / "lock.json"), str(folder / name / "cache"), str(folder / name / "set")]
    arguments = [str(ROOT), *place, json.dumps(counts), str(workers)]
    return [sys.executable, "-c", BUILD, *arguments]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a directory by its path in it."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def verdicts(cache: Path) -> list[str]:
    """Return the keys of all bugs that are known of, doubled ones twice."""
    lines = [
        line for path in cache.glob("mutants/*.jsonl") for line in path.read_text().split("\n")
    ]
    return [line.split('"')[1] for line in lines if line.startswith('["') and line.endswith("]")]


def main() -> int:
    """Run both builds, print and write what came of it; 0 if they agree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty or new folder")
    parser.add_argument("--sdists", type=Path, default=ROOT / ".cache/tightrope/sdists")
    parser.add_argument("--projects", default=PROJECTS)
    parser.add_argument("--tasks", type=int, default=60, help="of each split that has a project")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="draws the moments")
    parser.add_argument("--out", type=Path, help="where to write the result as Markdown")
    asked = parser.parse_args()
    pinned = json.loads((ROOT / "configs" / "projects.lock.json").read_text("utf-8"))
    pinned = {name: pinned[name] for name in asked.projects.split(",")}
    counts = dict.fromkeys(("train", "dev", "test"), 0)
    counts |= {entry["split"]: asked.tasks for entry in pinned.values()}
    for name in ("whole", "killed"):
        (asked.folder / name / "cache").mkdir(parents=True)
        if asked.sdists.is_dir():
            shutil.copytree(asked.sdists, asked.folder / name / "cache" / "sdists")
    (asked.folder / "lock.json").write_text(json.dumps(pinned), "utf-8")

    start = time.monotonic()
    subprocess.run(command(asked.folder, "whole", counts, 1), check=True)
    whole_s = time.monotonic() - start
    num_bugs = len(verdicts(asked.folder / "whole" / "cache"))
    draw, moments = random.Random(asked.seed), []
    cache = asked.folder / "killed" / "cache"
    for share in sorted(draw.random() for _ in range(asked.kills)):
        with subprocess.Popen(command(asked.folder, "killed", counts, 2)) as run:
            while len(verdicts(cache)) < share * num_bugs and run.poll() is None:
                time.sleep(0.05)
            time.sleep(draw.random())
            if run.poll() is None:
                run.send_signal(signal.SIGKILL)
                moments.append(len(verdicts(cache)))
    subprocess.run(command(asked.folder, "killed", counts, 2), check=True)

    sets = [contents(asked.folder / name / "set") for name in ("whole", "killed")]
    keys = verdicts(cache)
    manifest = json.loads(sets[0]["manifest.json"])
    is_same = sets[0] == sets[1] and len(moments) == asked.kills
    lines = [
        "# `kill -9` of `tasks build`",
        "",
        f"- projects: {asked.projects}; tasks: {manifest['counts']}",
        f"- undisturbed, one worker: {whole_s:.0f} s; {len(sets[0])} files",
        f"- killed {len(moments)} times, two workers, when {moments} of {num_bugs} bugs were known",
        f"- the final directories are {'the same, byte for byte' if is_same else 'NOT the same'}",
        f"- bugs tried to their end twice: {len(keys) - len(set(keys))} of {len(set(keys))}",
    ]
    print("\n".join(lines))
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n", "utf-8")
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
