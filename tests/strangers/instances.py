"""Files of benchmark instances of strangers: good ones, changed, then read and planted.

What an import would do in the sandbox is not tried here.
"""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envs.files import is_inside
from envs.importers.instance import RejectError
from envs.importers.instance_file import read_instances
from tests.envs.importers import test_check_instance, test_patched, test_r2e_gym
from tests.envs.importers.test_human_eval import program
from tests.envs.projects.small_project import FILES
from tests.strangers.mutations import change_bytes, change_kind, change_value, draw_value, dump

GOOD: tuple[Callable[[], dict[str, Any]], ...] = (
    lambda: copy.deepcopy(test_check_instance.instance()),  # they share lists, and are changed here
    lambda: copy.deepcopy(test_patched.instance()),
    lambda: copy.deepcopy(test_r2e_gym.instance()),
    lambda: program(),
)
_PATCHES = (
    "--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n",
    "diff --git a/{path} b/{path}\nnew file mode 120000\n--- /dev/null\n+++ b/{path}\n"
    "@@ -0,0 +1 @@\n+/etc\n",
    "diff --git a/{path} b/{path}\nrename from {path}\nrename to ../{path}\n",
    "--- a/{path}\n+++ b/{path}\n@@ -999999999999999999999,9 +1,99999999 @@\n a\n",
    "GIT binary patch\nliteral 9\n" + "z" * 99 + "\n{path}",
    "@@" * 50_000 + "{path}",
)
_PYTHON = (
    "-" * 50_000 + "1",
    "(" * 300 + ")" * 300,
    "x = " + "not " * 5_000 + "1",
    "def check(f):\n" + "".join(" " * n + "if 1:\n" for n in range(1, 120)) + " " * 121 + "1",
    "import os\ndef test_a(" + ", ".join(f"a{n}" for n in range(3_000)) + "): assert 1",
    "x = 1" + " + 1" * 20_000 + "\ndef check(f):\n    assert f()\n",
    "def check(f): assert f" + ".a" * 5_000,
    "\0", "\ufeffdef check(f):\n\tassert 1\n        assert 2\n", "# coding: rot13\n", "f'{" * 200,
)  # fmt: skip


def make(rng: random.Random, folder: Path, outside: Path) -> str:
    """Make a hostile file in a new folder; returns what was done."""
    folder.mkdir()
    path = folder / "instances.jsonl"
    rows: list[Any] = [rng.choice(GOOD)() for _ in range(rng.choice([1, 1, 2]))]
    done = []
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(rows))
        rows[at], what = _change(rng, rows[at], outside)
        done.append(what)
    path.write_text("".join(f"{dump(row)}\n" for row in rows), "utf-8", "surrogatepass")
    draw = rng.random()
    if draw < 0.12:
        done.append(change_bytes(rng, path, outside))
    elif draw < 0.2:
        done.append(change_kind(rng, path, outside))
    return "; ".join(done)


def make_good(folder: Path) -> str:
    """Make a file that is taken as it is."""
    folder.mkdir()
    (folder / "instances.jsonl").write_text(json.dumps([GOOD[0](), GOOD[0]()]), "utf-8")
    return "good"


def _change(rng: random.Random, row: Any, outside: Path) -> tuple[Any, str]:
    if not isinstance(row, dict) or not row:
        return draw_value(rng, outside), "row"
    name = rng.choice(list(row))
    value, draw = row[name], rng.random()
    if draw < 0.3 and isinstance(value, str) and value[:1] in ("{", "["):
        try:  # JSON as a text within JSON
            row[name] = dump(change_value(rng, json.loads(value), outside))
        except (ValueError, RecursionError):
            row[name] = value[: rng.randrange(len(value))]
    elif draw < 0.5:
        paths = ["../x.py", "/etc/x.py", f"{outside}/x.py", "a/../../x.py", "tests/x.py", "\0.py"]
        name = rng.choice([key for key in row if "patch" in key] or [name])
        row[name] = rng.choice(_PATCHES).replace("{path}", rng.choice(paths))
    elif draw < 0.7:
        name = rng.choice([key for key in row if key in ("test", "prompt", "buggy")] or [name])
        row[name] = rng.choice(_PYTHON)
    else:
        return change_value(rng, row, outside), f"value of {name}"
    return row, name


def open_it(folder: Path) -> None:
    """Read a file and make the trees of its instances."""
    for instance in read_instances(folder / "instances.jsonl"):
        try:
            trees = instance.plant({} if not instance.needs_repository else dict(FILES))
        except RejectError:
            continue
        for path in (*trees.pristine, *trees.broken):
            assert is_inside(path), path
