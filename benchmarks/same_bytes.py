"""Builds a task set twice, as two people on two days would, and compares every byte.

    python benchmarks/same_bytes.py --folder EMPTY --projects toolz,parse --tasks 20
    python benchmarks/same_bytes.py --folder EMPTY --path ~/mine --python ~/mine/v/bin/python

The second build has another folder, cache, hash seed, time zone, home, temporary folder, number of
workers and, where root runs this, another user (--user). A local project is copied for it, under
its own name. Tasks of locked projects are counted for each split that has one.

Prints which files and fields differ. The manifest's `journal` is left out of the comparison: it
lists what was rejected for its time. Exit code 0 if all is the same, 1 if not, 2 if something
differs and the journals do too, so that time may be behind it.
"""

import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from envs.tasks.build_report import JOURNALED

BUILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from envs.projects.local_folder import open_local
from envs.sources.build import build

asked = json.loads(sys.argv[2])
cache, out = Path(asked["cache"]), Path(asked["out"])
local = None
if asked["path"]:
    local = open_local(Path(asked["path"]), python=Path(asked["python"]), cache_dir=cache)
build("path" if local else "projects", out_dir=out, counts=asked["counts"], seed=0,
      lock=Path(asked["lock"]), cache_dir=cache, workers=asked["workers"], local=local)
"""
ONE = {"PYTHONHASHSEED": "1", "TZ": "UTC"}
TWO = {"PYTHONHASHSEED": "77", "TZ": "Pacific/Kiritimati", "LANG": "C.UTF-8"}


def run_build(
    place: Path, asked: dict[str, Any], *, variables: dict[str, str], user: str | None
) -> None:
    """Run one build in `place`, as another user if one is named."""
    (place / "cache").mkdir(parents=True)
    (place / "home").mkdir()
    (place / "temporary").mkdir()
    if asked["sdists"]:
        shutil.copytree(asked["sdists"], place / "cache" / "sdists")
    if asked["copies"] and asked["path"]:
        skip = shutil.ignore_patterns(".venv", "v", ".git", "__pycache__")
        copied = place / Path(asked["path"]).name
        shutil.copytree(asked["path"], copied, symlinks=True, ignore=skip)
        asked = asked | {"path": str(copied)}
    (place / "lock.json").write_text(json.dumps(asked["pinned"]), "utf-8")
    names = {"cache": "cache", "out": "set", "lock": "lock.json"}
    asked = asked | {key: str(place / name) for key, name in names.items()}
    environment = {"PATH": os.environ["PATH"], "HOME": str(place / "home"), **variables}
    environment["TMPDIR"] = str(place / "temporary")
    identity: dict[str, Any] = {}
    if user:
        entry = pwd.getpwnam(user)
        for path in (place, *place.rglob("*")):
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        environment |= {"USER": user, "LOGNAME": user}
    line = [sys.executable, "-B", "-c", BUILD, str(ROOT), json.dumps(asked)]
    subprocess.run(line, check=True, env=environment, cwd=place, **identity)


def read_set(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the bytes of every file, the manifest's without its journal, and that.

    What the journal lists is not counted among the manifest's rejects either.
    """
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = json.loads(found["manifest.json"])
    journal = manifest.pop("journal")
    rejects = manifest["rejects"].items()
    manifest["rejects"] = {why: count for why, count in rejects if why not in JOURNALED}
    found["manifest.json"] = json.dumps(manifest).encode()
    return found, journal


def list_differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Return where two JSON values differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        return [
            line
            for key in sorted({*one, *two})
            for line in list_differences(one.get(key), two.get(key), f"{where}.{key}")
        ]
    return [] if one == two else [f"{where}: {str(one)[:300]!r} != {str(two)[:300]!r}"]


def explain(name: str, one: bytes, two: bytes) -> list[str]:
    """Return how a file differs: fields of its records by task, or only that it does."""
    if not name.endswith((".json", ".jsonl")):
        return [name]
    tables = []
    for text in (one, two):
        lines = text.decode().split("\n") if name.endswith(".jsonl") else [text.decode()]
        rows = [json.loads(line) for line in lines if line]
        tables.append({row.get("id") or row.get("task_id") or "": row for row in rows})
    left, right = tables
    order = [] if list(left) == list(right) else [f"{name}: other tasks, or in another order"]
    shared = [key for key in left if key in right]
    return order + [
        f"{name} {line}"
        for key in shared
        for line in list_differences(left[key], right[key], str(key))
        if not line.startswith(".files")
    ]


def main() -> int:
    """Build twice, compare, say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty or new folder")
    parser.add_argument("--projects", default="", help="of the lock file; `all` for every one")
    parser.add_argument("--tasks", type=int, default=20, help="of each split that has a project")
    parser.add_argument("--sdists", type=Path, help="a folder of sdists that are there already")
    parser.add_argument("--path", type=Path, help="a local project instead")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--count", type=int, default=15, help="tasks of a local project")
    parser.add_argument("--user", default="nobody", help="of the second build, where root runs it")
    asked = parser.parse_args()
    lock = json.loads((ROOT / "configs" / "projects.lock.json").read_text("utf-8"))
    names = list(lock) if asked.projects == "all" else asked.projects.split(",")
    pinned = {} if asked.path else {name: lock[name] for name in names}
    counts = dict.fromkeys(("train", "dev", "test"), 0)
    counts |= {entry["split"]: asked.tasks for entry in pinned.values()}
    if asked.path:
        counts["train"] = asked.count
    wanted = {
        "pinned": pinned,
        "counts": counts,
        "path": str(asked.path.expanduser().absolute()) if asked.path else "",
        "python": str(asked.python.expanduser().absolute()),
        "sdists": str(asked.sdists) if asked.sdists else "",
    }
    folder = asked.folder.absolute()
    places = folder / "one", folder / "elsewhere" / "and deeper" / "two"
    user = asked.user if os.getuid() == 0 else None
    run_build(places[0], wanted | {"workers": 2, "copies": False}, variables=ONE, user=None)
    run_build(places[1], wanted | {"workers": 3, "copies": True}, variables=TWO, user=user)
    (one, first), (two, second) = (read_set(place / "set") for place in places)
    differing = [
        line
        for name in sorted({*one, *two})
        if one.get(name) != two.get(name)
        for line in (
            explain(name, one[name], two[name]) if name in one and name in two else [f"{name} once"]
        )
    ]
    by_time = sorted({*first} ^ {*second})
    print("\n".join([*differing, *(f"journal of one: {line}" for line in by_time)]))
    subject = asked.path.name if asked.path else f"{len(pinned)} projects"
    size = sum(map(len, one.values()))
    num_tasks = sum(one[f"{split}.jsonl"].count(b"\n") for split in counts)
    said = f"{len(differing)} differences" if differing else "the same"
    print(f"{subject}: {num_tasks} tasks, {len(one)} files, {size:,} bytes: {said}")
    print(f"lines of one journal only: {len(by_time)}")
    return 0 if not differing else 2 if by_time else 1


if __name__ == "__main__":
    sys.exit(main())
