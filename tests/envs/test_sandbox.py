"""What a run may and may not do at each sandbox level, and that nothing of it is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envs.errors import InfrastructureError
from envs.forkserver import ForkServer
from envs.isolation import MAX_PROCESSES
from envs.sandbox import Layers, probe
from envs.suite import run_suite

CONTAINER = Path(__file__).with_name("in_container.py")
IS_ROOT = os.getuid() == 0

ATTEMPTS = """
import ctypes, errno, os, resource, signal, socket, threading, time

def attempt(name, *args):
    try:
        return globals()[name](*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, "none")

def connect(port):
    socket.create_connection(("127.0.0.1", port), timeout=2).close()
    return "connected"

def read(path):
    with open(path) as file:
        return file.read()

def write(path):
    with open(path, "a") as file:
        file.write("planted")
    return "written"

def truncate(path):
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))
    return "emptied"

def remove(path):
    os.remove(path)
    return "removed"

def mode(path):
    os.chmod(path, 0)
    return "changed"

def listing(path):
    return os.listdir(path)

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"

def run(program):
    os.execv(program, [program])

def stop(pid):
    os.kill(pid, signal.SIGKILL)
    return "killed"

def libc(name, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)
    return "done"

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

def memory():
    return len(bytearray(2**32))
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


def test_the_network_is_out_of_reach(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # the listener does answer
        assert attempt(server, "connect", port) == "'EPERM'"


@pytest.mark.parametrize("act", ["read", "write", "truncate", "remove", "mode"])
def test_a_foreign_file_is_neither_read_nor_changed(server, tmp_path, act):
    secret = tmp_path / "secret.txt"
    secret.write_text("the answer")
    tmp_path.chmod(0o777)
    secret.chmod(0o666)
    assert attempt(server, act, str(secret)) in ("'EACCES'", "'EPERM'", "'ENOENT'")
    assert secret.read_text() == "the answer"
    assert secret.stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("place", ["home", "repository", "tmp"])
def test_foreign_folders_cannot_be_listed(server, place):
    paths = {"home": Path.home(), "repository": Path(__file__).parents[2], "tmp": Path("/tmp")}
    told = attempt(server, "listing", str(paths[place]))
    on_the_way = {repr([part]) for part in Path(sys.base_prefix).parts}  # to the interpreter
    assert told in {"'EACCES'", "'ENOENT'", *on_the_way}


@pytest.mark.parametrize(
    ("act", "args"),
    [
        ("fork", ()),
        ("run", ("/bin/true",)),
        ("libc", ("unshare", 0x10000000)),
        ("libc", ("ptrace", 0, 0, 0, 0)),
        ("libc", ("setns", 3, 0)),
        ("libc", ("prlimit", 2, 7, None, None)),
    ],
    ids=["fork", "exec", "unshare", "ptrace", "setns", "prlimit"],
)
def test_calls_that_reach_out_are_denied(server, act, args):
    assert attempt(server, act, *args) == "'EPERM'"


def test_what_honest_code_needs_works(server):
    assert attempt(server, "thread") == "4"
    assert attempt(server, "workspace") == "['new.txt', 'tries.py']"


def test_only_the_result_pipe_is_open_and_the_environment_is_empty(server):
    assert attempt(server, "descriptors") == "[0, 1, 2, 3]"
    assert "['HOME', 'LC_ALL', 'TMPDIR']" in attempt(server, "identity")


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a user id away")
def test_root_does_not_run_candidates_as_root():
    with ForkServer(preload="io") as server:
        assert probe().layers["drop_uid"]
        assert attempt(server, "identity").startswith("[62")


def test_signals_do_not_leave_the_run(server):
    assert attempt(server, "stop", os.getpid()) in ("'EPERM'", "'ESRCH'")


def test_memory_is_limited_and_time_is_up_when_it_is_up(server):
    assert attempt(server, "memory") == "raised MemoryError"
    start = time.monotonic()
    assert attempt(server, "sleep", 60, wall_s=0.5) == "timeout"
    assert time.monotonic() - start < 10


def test_output_is_bounded(server):
    source = "import os\ndef flood():\n    while True:\n        os.write(3, b'x' * 65536)\n"
    request = {"kind": "io", "files": {"m.py": source}, "calls": [["m:flood", []]]}
    report = server.run(request, wall_s=20)
    assert report.ending == "overflow"
    assert len(report.output) <= 4 * 2**20


def test_runs_at_once_do_not_mix_and_leave_nothing(server, scratch):
    attempt(server, "workspace")  # the first run starts the process
    before, child = sorted(Path("/proc/self/fd").iterdir()), server_pids()
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
    assert sorted(Path("/proc/self/fd").iterdir()) == before
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
    assert set(server_pids()) > before[1]
    server.close()
    assert (set(scratch.iterdir()), set(server_pids())) == before
    with pytest.raises(InfrastructureError, match="closed"):
        attempt(server, "workspace")


def test_a_fork_bomb_stops_at_the_process_limit_and_dies_with_its_run():
    bomb = f"""
import os, resource, time

def test_bomb():
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    assert limit == {MAX_PROCESSES}, "no limit: do not try"
    started = 0
    try:
        while started < 4 * limit:
            if os.fork() == 0:
                time.sleep(600)
            started += 1
    except OSError:
        pass
    assert 0 < started < limit
"""
    if not probe().layers["namespaces"]:
        pytest.skip("no processes at all at this level: see the denied calls")
    with ForkServer(preload="pytest") as server:
        run = run_suite(server, {"test_bomb.py": bomb}, ids=None, wall_s=30)
        assert run.passed == {"test_bomb.py::test_bomb"}, run.messages
        wait_until(lambda: all(children(pid) == [] for pid in server_pids()))


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_grading_works_where_unshare_and_mount_are_denied(user, tmp_path):
    if not IS_ROOT and user == "root":
        pytest.skip("needs root to play a container's root")
    done = subprocess.run(
        [sys.executable, str(CONTAINER), user, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["level"] == "landlock+seccomp"
    assert told["solved"] == {"io gold": True, "io noop": False} | {
        "pytest gold": True,
        "pytest noop": False,
    }


def server_pids() -> list[int]:
    pids = [pid for pid in children(os.getpid()) if b"forkserver_child" in command(pid)]
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


def wait_until(condition, limit_s=10.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "left over"
        time.sleep(0.02)
