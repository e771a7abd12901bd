"""Twenty popular projects as a user has them: `tasks build --source path`, no flag more.

    python benchmarks/any_project.py --folder /tmp/any --only attrs,six
    python benchmarks/any_project.py --folder /tmp/any

For each: the sdist unpacked, a virtual environment, `pip install -e . pytest` and what the
project's own instructions for running its tests name, `python -m pytest` as a yardstick, then the
build of 15 tasks. What was done is kept in FOLDER and skipped when run again; once all were tried,
the table goes to benchmarks/results/any_project.md. Needs a package index; hours on two cores.

The list was written down before the first of them was tried, and chosen for variety; none of it
is in the lock file.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
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
        ("jsonpath-ng", "virtue"),
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
    Subject("pydash", "8.1.0", "src, parametrised throughout", "dev"),
    Subject(
        "structlog",
        "26.1.0",
        "plugins",
        "",
        ("pytest-asyncio", "pytest-randomly", "simplejson", "time-machine"),
    ),
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
    places = {subject: (asked.folder / subject.name).resolve() for subject in SUBJECTS}
    for subject, place in places.items():
        if not names or subject.name in names:
            prepare(subject, place)
            if asked.again or not (place / "build.json").is_file():
                build(subject, place)
            print(row(subject, place), flush=True)
    built = [place for place in places.values() if (place / "build.json").is_file()]
    num_whole = sum(read(place / "build.json")["tasks"] == COUNT for place in built)
    if len(built) == len(SUBJECTS):
        path = ROOT / "benchmarks" / "results" / "any_project.md"
        path.write_text(table(places, num_whole), "utf-8")
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
    """Build the tasks with the default command, in an empty cache; note what became of it."""
    for made in ("cache", "tasks"):
        shutil.rmtree(place / made, ignore_errors=True)
    line = [sys.executable, str(ROOT / "scripts" / "main.py"), "tasks", "build"]
    where = ["--source", "path", "--path", ".", "--python", str(place / "v" / "bin" / "python")]
    out = ["--count", str(COUNT), "--out", str(place / "tasks")]
    told = step([*line, *where, *out], source(place), TIGHTROPE_CACHE=str(place / "cache"))
    told |= {"tasks": 0, "rejects": {}, "num_tests": 0, "left_out": {}, "commit": commit()}
    if told["code"] == 0:
        manifest = read(place / "tasks" / "manifest.json")
        told |= {"tasks": sum(manifest["counts"].values()), "rejects": manifest["rejects"]}
    for known in (place / "cache" / "mutants").glob("*.project.json"):
        suite = read(known)
        reasons = [reason.partition(":")[0] for reason in suite.get("excluded_tests", {}).values()]
        told |= {"num_tests": suite["num_tests"], "left_out": Counter(reasons)}
    (place / "build.json").write_text(json.dumps(told), "utf-8")


def commit() -> str:
    """Return the commit that is checked out, with a mark if files differ from it."""
    line = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()


def read(path: Path) -> dict[str, Any]:
    """Return a file's JSON."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def source(place: Path) -> Path:
    """Return the project's root."""
    (folder,) = (place / "unpacked").iterdir()
    return folder


def step(line: list[str], folder: Path, **environment: str) -> dict[str, Any]:
    """Run a command; returns its exit code, its seconds and the ends of what it wrote."""
    began, load = time.monotonic(), os.getloadavg()[0]
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
    seconds, load = time.monotonic() - began, (load + os.getloadavg()[0]) / 2
    return {"code": code, "s": seconds, "load": load, "out": out[-4000:], "err": err[-4000:]}


def row(subject: Subject, place: Path) -> str:
    """Return the project's line of the table."""
    if not (place / "build.json").is_file():
        return f"| {subject.name} {subject.version} | {subject.variety} | not tried | | | | | |"
    suite, told = read(place / "suite.json"), read(place / "build.json")
    own = re.sub(r"\x1b\[[0-9;]*m", "", suite["out"]).strip().rpartition("\n")[2].strip("= ")
    own = own if re.search("passed|failed|error", own) else f"stopped after {suite['s']:.0f} s"
    said = told["err"].strip().rpartition("\n")[2] if told["code"] else name(told["rejects"])
    for path in (place / "v" / "bin", source(place).parent, place):
        said = said.replace(f"{path}/", "")
    cells = [
        f"{subject.name} {subject.version}",
        subject.variety,
        own,
        f"{told['s'] / 60:.1f} ({told['load']:.0f})",
        str(told["num_tests"] or ""),
        name(told["left_out"]),
        str(told["tasks"]),
        said,
    ]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def name(counts: dict[str, int]) -> str:
    """Return '3 this, 2 that', most first."""
    return ", ".join(f"{n} {what}" for what, n in Counter(counts).most_common() if n)


def table(places: dict[Subject, Path], num_whole: int) -> str:
    """Return the page of results."""
    pythons = {place / "v" / "bin" / "python" for place in places.values()}
    asked = (
        "import sys, pytest; print(f'Python {sys.version.split()[0]}, pytest {pytest.__version__}')"
    )
    lines = [[str(python), "-c", asked] for python in sorted(pythons)]
    versions = sorted({subprocess.check_output(line, text=True).strip() for line in lines})
    commits = sorted({read(place / "build.json")["commit"] for place in places.values()})
    head = "Project | Chosen for | `python -m pytest` | Minutes (load) | Tests | Left out | Tasks"
    rows = [row(subject, place) for subject, place in places.items()]
    return (
        "# Projects as users have them\n\n`python benchmarks/any_project.py --folder FOLDER`: "
        f"{num_whole} of {len(SUBJECTS)} gave {COUNT} tasks with the default command; of the "
        f"others the refusal stands in the last column.\n\nCommit {', '.join(commits)}; "
        f"{'; '.join(versions)}; {os.cpu_count()} cores. Other work ran beside: the load is that "
        "of the machine, begin and end averaged, so minutes are upper bounds.\n\n"
        + "\n".join([f"| {head} | Rejected bugs, or refusal |", "|---" * 8 + "|", *rows])
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
