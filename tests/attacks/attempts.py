"""Finds attacks, and tries one in the sandbox; the tests and benchmarks/attacks.py share it.

An attack is one small module of plain data. Its caption says what it does, `GOES_FOR` what it wants
and `SOURCE` is the code, which runs nowhere but in the sandbox.
"""

import importlib
import json
import pkgutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from envs.errors import InfrastructureError
from envs.sandbox.levels import ServerProcess
from tests.attacks.world import World, remains, settles

FOLDER = Path(__file__).parent
WALL_S = 120.0  # what an attack takes that ends by itself, on a busy machine
LATE_S = 30.0  # wall seconds that a run may end after its limit, on a busy machine
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


def is_adaptive(name: str) -> bool:
    """Tell whether an attack of this name is made against a defence of this project."""
    return name.startswith("adaptive")


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
