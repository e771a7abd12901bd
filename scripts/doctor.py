"""`tightrope doctor`: what this machine has and lacks, as one table with a remedy for each lack.

    tightrope doctor

Exit code 0 if all that is needed works; what is only useful (a GPU, the model hub) is a warning.
Slow checks run side by side and each has a limit, so an answer comes within seconds also
where a network hangs. Nothing is changed.

Not covered: whether an experiment fits into memory (`--dry-run` of a stage says that), and packages
without which no verb starts (pydantic, PyYAML, numpy, rich, packaging): a traceback names those.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from envs.grading.bwrap_runner import REMEDY, Bubblewrap, bubblewrap
from envs.sandbox.levels import LAYER_FACTS, LEVELS, SandboxProbe, probe
from train.config.load import CACHE_VARIABLE, default_cache, parse_flags
from train.models.hub import hub_failure
from train.stages.open_stage import installed_version

State = Literal["ok", "optional", "missing"]

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ((3, 11), (3, 13))  # first and last, as in pyproject.toml
LEAST_MEMORY_GB = 2.0  # what configs/tiny.yaml takes
LEAST_DISK_GB = 1.0  # a demo with its tasks takes 0.2, the weights of smollm2-135m 0.5 (measured)
HUB_REPO = "Qwen/Qwen2.5-Coder-3B-Instruct"  # of configs/qwen3b.yaml
HUB_LIMIT_S = 4.0
TORCH_LIMIT_S = 20.0  # takes 2 s of CPU, more from a cold disk or on a busy machine
_ASK_TORCH = """
import json, torch
cuda, hip = torch.version.cuda, torch.version.hip
each = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({
    "version": torch.__version__,
    "build": f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "CPU only",
    "gpus": [f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for gpu in each],
}))
"""


@dataclass(frozen=True)
class Check:
    """One row: what was looked at and found; the remedy for a lack of it; whether it is needed."""

    name: str
    found: str
    remedy: str = ""
    is_needed: bool = False

    @property
    def state(self) -> State:
        """How it stands; without a remedy all is well."""
        if not self.remedy:
            return "ok"
        return "missing" if self.is_needed else "optional"


def main(argv: list[str]) -> int:
    """Check this machine; returns 1 if something needed is missing."""
    parse_flags(
        argv,
        prog="tightrope doctor",
        description="Checks this machine and names a remedy for each lack; changes nothing.",
        example="tightrope doctor",
    )
    return diagnose(platform.system())


def diagnose(system: str) -> int:
    """Print the table, or one line on a system (as `platform.system` names it) without hope."""
    if system != "Linux":
        print(
            f"Tightrope needs Linux, this is {system}: use a Linux machine, on Windows WSL2 "
            "(`wsl --install`), or Docker (`docker build -f docs/Dockerfile -t tightrope .`)"
        )
        return 1
    checks = check_all()
    _show(checks)
    lacks = [check.name for check in checks if check.state == "missing"]
    print(f"missing: {', '.join(lacks)}" if lacks else "nothing needed is missing")
    return 1 if lacks else 0


def check_all() -> list[Check]:
    """Ask everything, the slow questions side by side."""
    with ThreadPoolExecutor() as pool:
        torch = pool.submit(ask_torch, sys.executable)
        cards = pool.submit(cards_of_driver)
        hub = pool.submit(hub_failure, HUB_REPO, wait_s=HUB_LIMIT_S)
        sandbox = pool.submit(probe)
        constraints = ROOT / "constraints.txt"
        return [
            check_python(sys.version_info[:2]),
            *check_packages(requirements(ROOT), lock=constraints, installed=installed_version),
            check_torch(torch.result()),
            check_gpus(torch.result(), cards.result()),
            check_sandbox(sandbox.result()),
            *check_levels(sandbox.result()),
            *check_layers(sandbox.result()),
            check_second_runner(bubblewrap()),
            check_cores(len(os.sched_getaffinity(0))),
            check_memory(memory_gb(Path("/"))),
            check_folder("disk", Path.cwd(), why="runs/ goes here"),
            check_folder("cache", default_cache(), why=f"${CACHE_VARIABLE} names another"),
            check_hub(hub.result()),
        ]


def check_python(found: tuple[int, int]) -> Check:
    """Judge the interpreter's version."""
    remedy = "use 3.11 to 3.13: make setup PYTHON=python3.11"
    is_known = PYTHONS[0] <= found <= PYTHONS[1]
    return Check("Python", f"{found[0]}.{found[1]}", "" if is_known else remedy, is_needed=True)


def requirements(root: Path) -> list[str]:
    """Return what the checkout, or else the installed wheel, declares to need."""
    project = root / "pyproject.toml"
    if project.is_file():
        found: list[str] = tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]
        return found
    return [text for text in requires("tightrope") or [] if "extra ==" not in text]


def check_packages(
    required: Sequence[str], *, lock: Path, installed: Callable[[str], str | None]
) -> list[Check]:
    """Judge packages against the bounds, and against the lock where there is one."""
    has_lock = lock.is_file()
    again = "make -B setup" if has_lock else "install the wheel again, with its dependencies"
    wrong = _unmet(required, installed)
    text = _some(wrong) or f"all {len(required)} that are needed"
    packages = Check("packages", text, again if wrong else "", is_needed=True)
    if not has_lock:
        text = "no constraints.txt here: an installed wheel, held to its bounds only"
        return [packages, Check("lock", text)]
    pins = [line for line in lock.read_text("utf-8").split("\n") if "==" in line]
    other = _unmet(pins, installed)
    text = f"{len(other)} differ: {_some(other)}" if other else f"all {len(pins)} as locked"
    return [packages, Check("lock", text, again if other else "")]


def _unmet(needs: Sequence[str], installed: Callable[[str], str | None]) -> list[str]:
    """Return which requirements are not met, with what is there instead."""
    return [
        f"{need.name} {found or 'absent'} (needs {need.specifier})"
        for need in map(Requirement, needs)
        if need.marker is None or need.marker.evaluate()
        for found in [installed(need.name)]
        if found is None or not need.specifier.contains(found, prereleases=True)
    ]


def ask_torch(python: str) -> dict[str, Any]:
    """Load torch in a process of its own; returns version, build, GPUs; or `error`, `late`."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=TORCH_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return {"late": f"did not load within {TORCH_LIMIT_S:.0f} s"}
    if done.returncode:
        return {"error": done.stderr.strip().rpartition("\n")[2] or "it died without a word"}
    answer: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return answer


def cards_of_driver() -> list[str]:
    """Return the NVIDIA cards that the driver knows, whatever torch makes of them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    line = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return []
    return done.stdout.strip().split("\n") if done.returncode == 0 else []


def check_torch(answer: Mapping[str, Any]) -> Check:
    """Judge whether torch loads."""
    if "error" in answer:
        return Check("torch", answer["error"], "make -B setup", is_needed=True)
    if "late" in answer:
        return Check("torch", answer["late"], "again when the machine is less busy")
    return Check("torch", f"{answer['version']}, {answer['build']}")


def check_gpus(answer: Mapping[str, Any], cards: Sequence[str]) -> Check:
    """Judge what torch can use against what the driver knows."""
    if answer.get("gpus"):
        return Check("GPU", "; ".join(answer["gpus"]))
    found, remedy = "none", "none for configs/tiny.yaml; qwen3b.yaml needs one of 80 GB"
    if cards and "gpus" not in answer:
        found, remedy = f"{'; '.join(cards)}: torch did not answer", "see torch"
    elif cards:
        found = f"{'; '.join(cards)}: torch cannot use it"
        remedy = "rm -rf .venv && make setup, without PIP_ARGS, fetches a torch with CUDA"
        if answer["build"].startswith("CUDA"):
            remedy = f"renew the driver: torch is built for {answer['build']}"
    return Check("GPU", found, remedy)


def check_sandbox(found: SandboxProbe) -> Check:
    """Judge the sandbox: below the lowest level untrusted code is refused."""
    layers = ", ".join(name for name, used in found.layers.items() if used)
    text = f"level {found.level}" + (f"; layers {layers}" if layers else "")
    if found.found is None:
        return Check(
            "sandbox", "; ".join([text, *found.reasons])[:300], found.remedy, is_needed=True
        )
    return Check("sandbox", text, found.remedy)


def check_levels(found: SandboxProbe) -> list[Check]:
    """Say what each level of the sandbox gives, best first, and which one is used."""
    names = list(LEVELS)
    used = names.index(found.level) if found.level in names else len(names)
    return [
        Check(
            f"- level {number + 1}",
            f"{name}{' (used)' if number == used else ''}: {LEVELS[name]}",
            "see the layers below" if number < used else "",
        )
        for number, name in enumerate(names)
    ]


def check_layers(found: SandboxProbe) -> list[Check]:
    """Judge each layer of the sandbox by itself: what it gives, or what could be done without."""
    return [
        Check(f"- {name}", f"in use: {facts.gives}")
        if found.layers[name]
        else Check(f"- {name}", f"not in use: {facts.without}", facts.remedy)
        for name, facts in LAYER_FACTS.items()
    ]


def check_second_runner(found: Bubblewrap) -> Check:
    """Judge bubblewrap, which only `reward.second_runner_share` needs."""
    text = found.failure or f"bubblewrap works: {found.program}"
    return Check("second runner", text, REMEDY if found.failure else "")


def check_cores(cores: int) -> Check:
    """Judge the cores that this process may use."""
    remedy = "all works; times in the README are for 2" if cores < 2 else ""
    return Check("cores", str(cores), remedy)


def memory_gb(root: Path) -> float:
    """Return the memory that processes may use: the machine's, or a container's smaller limit."""
    lines = (root / "proc/meminfo").read_text("ascii").split("\n")
    limits = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup v2, v1
        path = root / "sys/fs/cgroup" / name
        text = path.read_text("ascii").strip() if path.is_file() else "max"
        limits += [int(text)] if text.isdigit() else []
    return min(limits) / 1e9


def check_memory(gigabytes: float) -> Check:
    """Judge the memory."""
    remedy = f"{LEAST_MEMORY_GB:g} GB, or raise the container's limit"
    is_enough = gigabytes >= LEAST_MEMORY_GB
    return Check("memory", f"{gigabytes:.1f} GB", "" if is_enough else remedy, is_needed=True)


def check_folder(name: str, folder: Path, *, why: str) -> Check:
    """Judge by writing a file whether a folder, there or to be made, takes files; and its space."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    text = f"{folder}{'' if there == folder else ' (not made yet)'}"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
        free = shutil.disk_usage(there).free / 1e9
    except OSError as error:
        remedy = f"make it writable, or take another folder ({why})"
        return Check(name, f"{text}: {error.strerror}", remedy, is_needed=True)
    remedy = f"free {LEAST_DISK_GB:g} GB there ({why})" if free < LEAST_DISK_GB else ""
    return Check(name, f"{text}, {free:.1f} GB free", remedy, is_needed=True)


def check_hub(failure: str | None) -> Check:
    """Judge the model hub, which only models of the hub need."""
    remedy = (
        "only hub models need it: configs/tiny.yaml runs without, qwen05b.yaml after `tightrope "
        "model fetch qwen2.5-coder-0.5b`, others with model.base: ./FOLDER"
    )
    return Check("model hub", failure or "reached", remedy if failure else "")


def _some(items: Sequence[str], *, most: int = 4) -> str:
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _show(checks: Sequence[Check]) -> None:
    styles = {"ok": "green", "optional": "yellow", "missing": "bold red"}
    table = Table("check", "state", "found", "remedy")
    for check in checks:
        cells = (check.name, check.state, check.found, check.remedy)
        table.add_row(*(Text(cell) for cell in cells), style=styles[check.state])
    Console(width=None if sys.stdout.isatty() else 110).print(table)
