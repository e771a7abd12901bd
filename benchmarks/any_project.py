"""Twenty popular projects as a user has them: `tasks build --source path`, no flag more.

    python benchmarks/any_project.py --folder /tmp/any --only attrs,six
    python benchmarks/any_project.py --folder /tmp/any

For each: the sdist unpacked, a virtual environment, `pip install -e . pytest` and what the
project's own instructions for running its tests name, `python -m pytest` as a yardstick, then the
build of 15 tasks. What was done is kept in FOLDER and skipped when run again; the table goes to
benchmarks/results/any_project.md. Needs a package index; an hour on two cores.

The list was written down before the first of them was tried, and chosen for variety; none of it
is in the lock file.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COUNT = 15
LIMIT_S = 1800  # for one step: a suite that hangs must not end the others


class Subject(NamedTuple):
    """A project: its release, what stands in brackets behind the dot, packages for its tests."""

    name: str
    version: str
    variety: str
    extras: str = ""
    packages: tuple[str, ...] = ()


SUBJECTS = (
    Subject("attrs", "26.1.0", "src, hypothesis", "", ("hypothesis", "cloudpickle", "pympler")),
    Subject("click", "8.5.1", "src, fixtures"),
    Subject("jinja2", "3.1.6", "src, a module named tests.py, trio", "", ("trio",)),
    Subject("more-itertools", "11.2.1", "flat, unittest"),
    Subject(
        "httpx",
        "0.28.1",
        "async, servers, anyio's plugin",
        "brotli,cli,http2,socks,zstd",
        ("chardet==5.2.0", "trio", "trustme", "uvicorn", "cryptography"),
    ),
    Subject("packaging", "26.4", "binary data files", "", ("pretend", "hypothesis", "tomli_w")),
    Subject("pluggy", "1.7.0", "src, tests in testing/", "", ("pytest-benchmark",)),
    Subject(
        "jsonschema",
        "4.26.0",
        "tests inside the package, unittest, JSON data",
        "",
        ("jsonpath-ng",),
    ),
    Subject("python-slugify", "9.2.0", "unittest, test.py beside the package"),
    Subject("tomlkit", "0.15.2", "data files", "", ("pyyaml",)),
    Subject("six", "1.17.0", "single module"),
    Subject("wcwidth", "0.9.4", "tables, data files", "", ("pytest-cov",)),
    Subject("zipp", "4.1.2", "unittest, doctests", "test"),
    Subject("jaraco.collections", "5.2.1", "namespace package, doctests", "test"),
    Subject("asgiref", "3.13.0", "pytest-asyncio", "tests"),
    Subject("h11", "0.16.0", "tests inside the package"),
    Subject("mpmath", "1.3.0", "tests inside the package, slow"),
    Subject("pydash", "8.1.0", "src, parametrised throughout"),
    Subject("structlog", "26.1.0", "plugins", "", ("pytest-asyncio", "freezegun", "pretend")),
    Subject("markdown", "3.11.3", "unittest, data files", "testing"),
)


def main() -> int:
    """Try the projects that were not tried yet, then write the table; 0 if 16 gave all tasks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--again", action="store_true", help="build anew what was built")
    asked = parser.parse_args()
    names = set(filter(None, asked.only.split(",")))
    for subject in SUBJECTS:
        if not names or subject.name in names:
            place = (asked.folder / subject.name).resolve()
            prepare(subject, place)
            if asked.again or not (place / "build.json").is_file():
                build(subject, place)
            print(row(subject, place), flush=True)
    rows = [row(subject, (asked.folder / subject.name).resolve()) for subject in SUBJECTS]
    num_whole = sum(f"| {COUNT} |" in line for line in rows)
    if not names:
        path = ROOT / "benchmarks" / "results" / "any_project.md"
        path.write_text(table(rows, num_whole), "utf-8")
    return 0 if num_whole >= 16 else 1


def prepare(subject: Subject, place: Path) -> None:
    """Unpack the sdist, install, and run the suite as its authors do."""
    if (place / "suite.json").is_file():
        return
    place.mkdir(parents=True, exist_ok=True)
    release = f"{subject.name}=={subject.version}"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", subject.name]
    step([*pip, "-d", str(place / "sdist"), release], place)
    (sdist,) = (place / "sdist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    python = place / "v" / "bin" / "python"
    step([sys.executable, "-m", "venv", str(place / "v")], place)
    own = f".[{subject.extras}]" if subject.extras else "."
    install = [str(python), "-m", "pip", "install", "-q", "-e", own, "pytest", *subject.packages]
    step(install, source(place))
    told = step([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"], source(place))
    (place / "suite.json").write_text(json.dumps(told), "utf-8")


def build(subject: Subject, place: Path) -> None:
    """Build the tasks with the default command, in a cache of its own."""
    line = [sys.executable, str(ROOT / "scripts" / "main.py"), "tasks", "build"]
    where = ["--source", "path", "--path", ".", "--python", str(place / "v" / "bin" / "python")]
    out = ["--count", str(COUNT), "--out", str(place / "tasks")]
    clean = ["--clean"] if (place / "tasks").exists() else []
    told = step([*line, *where, *out, *clean], source(place), TIGHTROPE_CACHE=str(place / "cache"))
    manifest = place / "tasks" / "manifest.json"
    told["tasks"] = 0
    if told["code"] == 0:
        told["tasks"] = sum(json.loads(manifest.read_text("utf-8"))["counts"].values())
    (place / "build.json").write_text(json.dumps(told), "utf-8")


def source(place: Path) -> Path:
    """Return the project's root."""
    (folder,) = (place / "unpacked").iterdir()
    return folder


def step(line: list[str], folder: Path, **environment: str) -> dict[str, Any]:
    """Run a command; returns its exit code, its seconds and the ends of what it wrote."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            line,
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            errors="replace",
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, out, err = 124, "", f"not done after {LIMIT_S} s"
    return {"code": code, "s": time.monotonic() - began, "out": out[-4000:], "err": err[-4000:]}


def row(subject: Subject, place: Path) -> str:
    """Return the project's line of the table."""
    if not (place / "build.json").is_file():
        return f"| {subject.name} {subject.version} | {subject.variety} | not tried | | | |"
    suite = json.loads((place / "suite.json").read_text("utf-8"))
    told = json.loads((place / "build.json").read_text("utf-8"))
    own = suite["out"].strip().rpartition("\n")[2].strip("= ")
    last = (told["out"] if told["code"] == 0 else told["err"]).strip().rpartition("\n")[2]
    said = last.replace(str(place), "").replace("|", "\\|")
    minutes = f"{told['s'] / 60:.1f}"
    return (
        f"| {subject.name} {subject.version} | {subject.variety} | {own} | "
        f"{told['tasks']} | {minutes} | {said} |"
    )


def table(rows: list[str], num_whole: int) -> str:
    """Return the page of results."""
    head = "| Project | Chosen for | `python -m pytest` | Tasks | Minutes | What the build said |"
    return (
        "# Projects as users have them\n\n`python benchmarks/any_project.py --folder FOLDER`: "
        f"{num_whole} of {len(SUBJECTS)} gave {COUNT} tasks.\n\n"
        + "\n".join([head, "|---|---|---|---|---|---|", *rows])
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
