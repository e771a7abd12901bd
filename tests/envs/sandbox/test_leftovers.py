"""However a run, a guard, a server or the trusted side ends: nothing of it is left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from envs.errors import InfrastructureError
from envs.grading.bwrap_runner import MAX_REPORT_BYTES, REPORT, run_cold
from envs.sandbox.kernel import cgroups
from envs.sandbox.levels import Layers, ServerProcess, probe
from tests.attacks.world import descendants, is_running, parents_of_all, remains, settles

BOMB = (
    "import os, time\ntry:\n  while True:\n    os.fork() or time.sleep(60)\nexcept OSError:\n  pass"
)
SLEEP = "import time\ntime.sleep(60)"
FLOOD = f"print('x' * 10**8)\nopen({REPORT!r}, 'w').write('x' * 10**8)"
FILL = "for n in range(99999):\n  open(str(n), 'wb').write(bytes(10**6))"
ENOUGH_S = 60.0  # for what ends by itself, on a busy machine
SOURCES = {  # what the submitted module does, how the run must end, and its limit
    "passed": ("", "exited", ENOUGH_S),
    "failed": ("1 / 0", "exited", ENOUGH_S),
    "crashed": ("import ctypes\nctypes.string_at(0)", "exited", ENOUGH_S),
    "exited": ("import os\nos._exit(3)", "exited", ENOUGH_S),
    "too slow": (SLEEP, "timeout", 1.0),
    "disk filled": (FILL, "exited or overflow", ENOUGH_S),
    "too much output": (
        "import os\nwhile True:\n  os.write(3, bytes(99999))",
        "overflow",
        ENOUGH_S,
    ),
    "bomb": (BOMB, "exited or timeout", 1.0),
}
TRUSTED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from envs.sandbox.levels import Layers, ServerProcess
server = ServerProcess(Layers(**json.loads(sys.argv[2])), preload="pytest")
print(server.pid, server.scratch, flush=True)
server.run({"kind": "io", "files": {"m.py": sys.argv[3]}, "calls": [["m:f", []]]}, wall_s=60)
"""
ROOT = Path(__file__).resolve().parents[3]


def levels() -> list[Layers]:
    found = probe().require()
    minimum = Layers(namespaces=False, landlock=True, drop_uid=False)
    return list(dict.fromkeys([found, minimum])) if found.landlock else [found]


@pytest.fixture(params=levels(), ids=lambda layers: layers.level)
def layers(request):
    return request.param


def request_of(source):
    return {"kind": "io", "files": {"m.py": source}, "calls": [["m:f", []]]}


def all_gone(pid, scratch):
    groups = [path for base in cgroups.find_bases() for path in base.glob(f"tightrope-{pid}-*")]
    return not (is_running(pid) or descendants(pid) or scratch.exists() or groups)


def test_no_end_of_a_run_leaves_anything(layers):
    with contextlib.closing(ServerProcess(layers, preload="pytest")) as server:
        before = remains(server.pid, server.scratch)
        for name, (source, endings, wall_s) in SOURCES.items():
            ending = server.run(request_of(source), wall_s=wall_s)["ending"]
            assert ending in endings, name
            settled = settles(lambda: remains(server.pid, server.scratch).is_no_more_than(before))
            assert settled, (name, remains(server.pid, server.scratch), before)
    assert all_gone(server.pid, server.scratch)


@pytest.mark.parametrize("victim", ["guard", "candidate", "server"])
def test_a_killed_worker_leaves_nothing(layers, victim):
    server = ServerProcess(layers, preload="pytest")
    before = remains(server.pid, server.scratch)
    failures = []

    def run():
        try:
            server.run(request_of(SLEEP), wall_s=30)
        except InfrastructureError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert settles(lambda: len(descendants(server.pid)) == 2)
    parents = parents_of_all()
    guard, candidate = sorted(descendants(server.pid), key=lambda pid: parents[pid] != server.pid)
    os.kill({"guard": guard, "candidate": candidate, "server": server.pid}[victim], signal.SIGKILL)
    thread.join()
    assert failures or victim == "candidate"
    assert settles(lambda: not is_running(guard))
    assert settles(lambda: not is_running(candidate))
    if victim == "candidate":
        assert settles(lambda: remains(server.pid, server.scratch).is_no_more_than(before))
    server.close()
    assert all_gone(server.pid, server.scratch)


def test_closing_ends_runs_that_are_under_way(layers):
    server = ServerProcess(layers, preload="pytest")

    def run():
        with pytest.raises(InfrastructureError):
            server.run(request_of(SLEEP), wall_s=30)

    thread = threading.Thread(target=run)
    thread.start()
    assert settles(lambda: len(descendants(server.pid)) == 2)
    below = descendants(server.pid)
    server.close()
    thread.join()
    assert all_gone(server.pid, server.scratch)
    assert settles(lambda: not any(map(is_running, below)))


def test_when_the_trusted_side_is_killed_the_server_cleans_up(layers):
    told = json.dumps(asdict(layers))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        trusted = subprocess.Popen(
            [sys.executable, "-c", TRUSTED, str(ROOT), told, SLEEP],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": folder},
        )
        with trusted.stdout:
            pid, scratch = trusted.stdout.readline().split()
            assert settles(lambda: len(descendants(int(pid))) == 2)
            below = descendants(int(pid))
            trusted.kill()
            trusted.wait()
        assert settles(lambda: all_gone(int(pid), Path(scratch)))
        assert not any(map(is_running, below))
        assert list(Path(folder).iterdir()) == []


@pytest.mark.bubblewrap
@pytest.mark.parametrize(
    ("source", "status"),
    [("", 0), ("1 / 0", 1), (SLEEP, None), (BOMB, 0), (FLOOD, None)],
    ids=["passed", "failed", "slow", "bomb", "flood"],
)
def test_the_second_runner_leaves_nothing(source, status):
    before = remains(os.getpid(), Path("/nowhere"))
    wall_s = 2.0 if source == SLEEP else ENOUGH_S
    run = run_cold({"m.py": source}, arguments=["m.py"], ids=(), limit_s=wall_s)
    assert run.status == status
    assert len(run.report) < 2 * MAX_REPORT_BYTES
    assert settles(lambda: remains(os.getpid(), Path("/nowhere")).is_no_more_than(before))
