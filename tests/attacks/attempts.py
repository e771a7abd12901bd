"""Tries one attack on one grader or in the sandbox; the tests and benchmarks/attacks.py share it.

An attack is one small module of plain data. Its caption says what it does, `GOES_FOR` what it wants
and `SOURCE` is the code, which runs nowhere but in the sandbox.
"""

import importlib
import json
import pkgutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType

from envs.errors import InfrastructureError
from envs.grading.bwrap_runner import run_cold
from envs.grading.graders import RoutingGrader
from envs.grading.static_screen import find_added_suspects
from envs.sandbox.levels import ServerProcess
from envs.tasks.store import BuiltTask
from tests.attacks.world import World, remains, settles
from tests.envs.small_tasks import io_task, is_solved, pytest_task

FOLDER = Path(__file__).parent
WALL_S = 120.0  # what an attack takes that ends by itself, on a busy machine
LATE_S = 30.0  # wall seconds that a run may end after its limit, on a busy machine
TESTS = """\
import pytest
from calc import first, total

@pytest.mark.parametrize("values, expected", [([1, 2], 3), ([5], 5), ([], 0)])
def test_total(values, expected):
    assert total(values) == expected

def test_first():
    assert first([7, 8]) == 7
"""
# What sandbox attacks share: a CPU timer switched off, attempts that count as held if refused.
PRELUDE = """
import ctypes, errno, mmap, signal
signal.setitimer(signal.ITIMER_PROF, 0)

def tried(**attempts):
    told = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except MemoryError:
            told.append(f"{name} MemoryError")
        except OSError as error:
            told.append(f"{name} {errno.errorcode.get(error.errno, error.errno)}")
        else:
            return f"succeeded: {name}"
    return f"held: {', '.join(told)}"

def syscall(number, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *args) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""


@dataclass(frozen=True)
class Verdict:
    """Whether the defence held, and in a few words why it is thought so."""

    held: bool
    told: str


def attacks(kind: str) -> list[ModuleType]:
    """Return the attacks of the folder `graders` or `sandbox`, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules([str(FOLDER / kind)]))
    return [importlib.import_module(f"tests.attacks.{kind}.{name}") for name in names]


def name_of(attack: ModuleType) -> str:
    """Return the attack's name, that of its file."""
    return attack.__name__.rpartition(".")[2]


def try_sandbox(attack: ModuleType, server: ServerProcess, world: World) -> Verdict:
    """Run an attack in the sandbox and look at what it did to the world."""
    wall_s = getattr(attack, "WALL_S", WALL_S)
    request = {
        "kind": "io",
        "files": {"attack.py": PRELUDE + attack.SOURCE},
        "calls": [["attack:attack", [world.facts(server)]]],
    }
    neighbour = server.scratch / "box-neighbour"  # looks like a run's at the lowest level
    neighbour.mkdir(exist_ok=True)
    (neighbour / "calc.py").write_text(world.token)
    before = remains(server.pid, server.scratch)
    start = time.monotonic()
    try:
        report = server.run(request, wall_s=wall_s)
    except InfrastructureError as error:
        return Verdict(False, f"the run failed: {error}")
    told = _told(report["output"], report["ending"])
    wrong = world.harm()
    if time.monotonic() - start > wall_s + LATE_S:
        wrong.append("it came back late")
    endings = getattr(attack, "ENDING", "exited").split(" or ")
    if report["ending"] not in endings:
        wrong.append(f"ended as {report['ending']}")
    if not told.startswith("held") and not (told == report["ending"] and hasattr(attack, "DIES")):
        wrong.append(told)
    if world.token in report["output"]:
        wrong.append("the secret came out")
    if not settles(lambda: remains(server.pid, server.scratch).is_no_more_than(before)):
        wrong.append(f"left {remains(server.pid, server.scratch)}, before {before}")
    return Verdict(not wrong, "; ".join(wrong) or told)


def _told(output: str, ending: str) -> str:
    """Return what the attack says of itself, or else how it ended."""
    try:
        line = json.loads(output.splitlines()[0])
        return str(line.get("value") or f"broken: {line['error']}").strip("'\"")
    except (ValueError, LookupError, AttributeError):
        return ending


def small_tasks() -> dict[str, BuiltTask]:
    """Return the same bug for both graders, with an expected value in the frames of its tests."""
    ids = [f"tests/test_calc.py::test_total[{name}]" for name in ("values0-3", "values1-5")]
    return {
        "io": io_task(limit_s=10.0),
        "pytest": pytest_task(
            tests=TESTS,
            fail_to_pass=[*ids, "tests/test_calc.py::test_total[values2-0]"],
            pass_to_pass=["tests/test_calc.py::test_first"],
            limit_s=10.0,
        ),
    }


def submitted(attack: ModuleType, task: BuiltTask) -> dict[str, str]:
    """Return the files that the attack hands in."""
    own = getattr(attack, "FILES", None) or {"calc.py": attack.SOURCE}
    return {**task.workspace, **own}


def fools_exit_code(attack: ModuleType, task: BuiltTask) -> bool:
    """Tell whether it passes where nothing counts but the exit code of pytest."""
    tree = {**task.tests, **submitted(attack, task)}
    tree = {path: text for path, text in tree.items() if _is_possible(path)}
    run = run_cold(
        tree, arguments=["-m", "pytest", "-q", "tests/test_calc.py"], ids=(), limit_s=60.0
    )
    return run.status == 0


def what_stops(attack: ModuleType, task: BuiltTask, graders: Mapping[str, RoutingGrader]) -> str:
    """Return which defence of the pytest grader stops the attack: the last that is needed."""
    files = submitted(attack, task)
    outcome = graders["first"].grade(task.hidden, files)
    if is_solved(outcome):
        asked_twice = graders["second"].grade(task.hidden, files)
        return "nothing" if is_solved(asked_twice) else "second runner"
    if outcome.fail_to_pass_rate < 1 or outcome.pass_to_pass_rate < 1:
        return "ids and canaries"
    names = find_added_suspects(task.workspace, {"calc.py": files["calc.py"]})
    return "static screen" if names else "forged lines"


def _is_possible(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return len(parts) > 1 or path.endswith((".py", ".ini", ".toml", "y"))
