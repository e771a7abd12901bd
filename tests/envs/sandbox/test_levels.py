"""What honest runs may do at each sandbox level, and that no end leaves anything behind.

What they may not do is in tests/attacks/.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envs.errors import InfrastructureError
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.levels import Layers, probe

ROOT = Path(__file__).resolve().parents[3]
IS_ROOT = os.getuid() == 0

ATTEMPTS = """
import errno, os, resource, threading, time

def attempt(name, *args):
    try:
        return globals()[name](*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, "none")

def thread():
    done = []
    threads = [threading.Thread(target=done.append, args=(1,)) for _ in range(4)]
    [each.start() for each in threads]
    [each.join() for each in threads]
    return len(done)

def workspace():
    with open("new.txt", "w") as file:
        file.write("x")
    return sorted(os.listdir("."))

def descriptors():
    found = []
    for number in range(1000):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    return found

def identity():
    return [os.getuid(), resource.getrlimit(resource.RLIMIT_AS)[1] < 2**40, sorted(os.environ)]

def sleep(seconds):
    time.sleep(seconds)
    return "slept"
"""


def levels() -> list[Layers]:
    found = probe().require()
    minimum = Layers(namespaces=False, landlock=True, drop_uid=False)
    return list(dict.fromkeys([found, minimum])) if found.landlock else [found]


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory):
    """A place for sandbox folders that no other process uses, open to pass through."""
    tmp_path_factory.getbasetemp()  # made now, not in the folder that goes away below
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        before, tempfile.tempdir = tempfile.tempdir, folder
        yield Path(folder)
        tempfile.tempdir = before


@pytest.fixture(scope="module", params=levels(), ids=lambda layers: layers.level)
def server(request, scratch):
    with ForkServer(preload="io", layers=request.param) as server:
        yield server


def attempt(server, *args, wall_s=20.0):
    request = {"kind": "io", "files": {"tries.py": ATTEMPTS}, "calls": [["tries:attempt", args]]}
    report = server.run(request, wall_s=wall_s)
    lines = [json.loads(line) for line in report.output.splitlines()]
    return lines[0].get("value", lines[0].get("error")) if lines else report.ending


def test_the_probe_names_a_level_that_includes_seccomp():
    found = probe()
    assert found.level.endswith("+seccomp")
    assert found.layers["seccomp"]
    assert found.layers["rlimits"]
    assert (found.remedy == "") == (found.level == "namespaces+landlock+seccomp")


def test_what_honest_code_needs_works(server):
    assert attempt(server, "thread") == "4"
    assert attempt(server, "workspace") == "['new.txt', 'tries.py']"


def test_only_the_result_pipe_is_open_and_the_environment_is_empty(server):
    assert attempt(server, "descriptors") == "[0, 1, 2, 3]"
    names = "['HOME', 'LC_ALL', 'LOGNAME', 'TMPDIR', 'USER']"
    assert names in attempt(server, "identity")


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a user id away")
def test_root_does_not_run_candidates_as_root():
    with ForkServer(preload="io") as server:
        assert probe().layers["drop_uid"]
        assert attempt(server, "identity").startswith("[62")


def test_the_users_umask_changes_nothing(scratch):
    """In a process of its own: what is found is kept, and other threads make files."""
    code = "import os; os.umask(63); from envs.sandbox.levels import probe; print(probe().layers)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str(probe().layers)


def test_time_is_up_when_it_is_up(server):
    start = time.monotonic()
    assert attempt(server, "sleep", 60, wall_s=0.5) == "timeout"
    assert time.monotonic() - start < 30


def test_runs_at_once_do_not_mix_and_leave_nothing(server, scratch):
    attempt(server, "workspace")  # the first run starts the process
    before, child = set(Path("/proc/self/fd").iterdir()), server_pids()
    wait_until(lambda: all(children(pid) == [] for pid in child))  # it cleans up after its report
    folders = set(scratch.glob("*/*"))
    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(attempt, server, "sleep", 60, wall_s=1.0)
        files = [{f"m{i}.py": f"def f():\n    return {i}\n"} for i in range(12)]
        reports = pool.map(
            lambda i: (
                server.run(
                    {"kind": "io", "files": files[i], "calls": [[f"m{i}:f", []]]}, wall_s=20
                ).output
            ),
            range(12),
        )
        assert [json.loads(text)["value"] for text in reports] == [str(i) for i in range(12)]
        assert slow.result() == "timeout"
    wait_until(lambda: set(Path("/proc/self/fd").iterdir()) <= before)
    assert server_pids() == child
    wait_until(lambda: all(children(pid) == [] for pid in child))
    assert set(scratch.glob("*/*")) == folders


def test_a_dead_server_is_replaced_and_the_run_repeated(server):
    attempt(server, "workspace")
    before = set(server_pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert attempt(server, "workspace") == "['new.txt', 'tries.py']"
    assert not before & set(server_pids())


def test_closing_ends_the_process_and_removes_its_folder(scratch):
    before = set(scratch.iterdir()), set(server_pids())
    server = ForkServer(preload="io")
    attempt(server, "workspace")
    assert set(server_pids()) - before[1]
    server.close()
    assert set(scratch.iterdir()) <= before[0] and set(server_pids()) <= before[1]
    with pytest.raises(InfrastructureError, match="closed"):
        attempt(server, "workspace")


def server_pids() -> list[int]:
    pids = [pid for pid in children(os.getpid()) if b"sandbox/child_main" in command(pid)]
    return sorted(pids)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children(parent: int) -> list[int]:
    """Return the pids of direct children, zombies included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent:
            found.append(int(folder.name))
    return found


def wait_until(condition, limit_s=30.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "left over"
        time.sleep(0.02)
