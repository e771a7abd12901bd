"""None of the attacks on the sandbox succeeds: as root, as another user, at the lowest level.

Each aims at things of the test's own (tests/attacks/world.py), bounds itself, and leaves nothing
behind: no process, file, control group, descriptor or mount.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.grading.bwrap_runner import bubblewrap
from envs.sandbox.levels import ServerProcess, probe
from tests.attacks.attempts import attacks, name_of, try_sandbox
from tests.attacks.world import open_world

CONTAINER = Path(__file__).parents[1] / "envs" / "sandbox" / "in_container.py"
IS_ROOT = os.getuid() == 0
AS_NOBODY = [pytest.mark.mounts] if IS_ROOT else []  # root becomes another user in a private root


@pytest.fixture(scope="module")
def server():
    with contextlib.closing(ServerProcess(probe().require(), preload="pytest")) as server:
        yield server


@pytest.fixture(scope="module")
def world():
    with open_world() as world:
        yield world


@pytest.mark.parametrize("attack", attacks("sandbox"), ids=name_of)
def test_the_attack_is_held(server, world, attack):
    verdict = try_sandbox(attack, server, world)
    assert verdict.held, verdict.told


@pytest.mark.timeout(960)  # takes 10 s where a core is free
@pytest.mark.parametrize(
    ("role", "level"),
    [
        pytest.param("user", None, marks=AS_NOBODY),
        ("container-root", "landlock+seccomp"),
        pytest.param("container-nobody", "landlock+seccomp", marks=AS_NOBODY),
    ],
)
def test_other_users_and_containers_grade_and_hold_all_attacks(role, level, tmp_path):
    if not IS_ROOT and role == "container-root":
        pytest.skip("needs root to play a container's root")
    done = subprocess.run(
        [sys.executable, str(CONTAINER), role, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["level"] == (level or probe().level)
    graded = {"io gold": True, "io noop": False, "pytest gold": True, "pytest noop": False}
    assert told["solved"] == graded
    assert told["not held"] == {}
    works = role == "user" and not bubblewrap().failure  # containers deny the namespaces it needs
    assert (told["second runner"] == "") == works
