"""What a run computes and sleeps is its own; what the machine does not give it is the machine's."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from envs.errors import InfrastructureError
from envs.grading.bwrap_runner import doubt_pass, run_cold
from envs.grading.graders import Equipment, IoGrader, PytestGrader, make_grader
from envs.sandbox.fork_server import TIMEOUT_FACTOR, ForkServer
from envs.sandbox.kernel.sleep_clock import SleepClock
from envs.sandbox.levels import Layers, ServerProcess, probe
from tests.envs.small_tasks import FIXED, io_task, pytest_task, store_of

ROOT = Path(__file__).resolve().parents[3]
PLAIN = {
    "ids": None,
    "config": None,
    "options": ["--assert=plain"],
    "paths": ["."],
    "environment": {},
    "explain": False,
}
LIMIT_S = 1.0
SLEEPERS = {
    "sleep": "import time\ntime.sleep(60)",
    "short sleeps": "import time\nwhile True:\n    time.sleep(0.01)",
    "deadlock": "import threading\nthreading.Lock().acquire() and threading.Event().wait()",
    "thread": "import threading, time\nthread = threading.Thread(target=time.sleep, args=(60,))\n"
    "thread.start()\nthread.join()",
    "no alarm": "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
    "time.sleep(60)",
}
# Children whose end nobody waits for, so that the kernel adds what they compute to nothing.
UNCOUNTED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
reader, writer = os.pipe()
def start():
    if os.fork() == 0:
        while time.process_time() < 0.3:
            pass
        os.write(writer, b"x")
        os._exit(0)
for _ in range(3):
    start()
while os.read(reader, 1):
    start()
"""
# Many that wait for each other all the time, and hardly compute.
CROWD = """
import os, time
for _ in range(25):
    if os.fork() == 0:
        break
while True:
    time.sleep(0.06 - time.time() % 0.06)
    sum(range(3000))
"""
BURNERS = {
    "loop": "while True:\n    pass",
    "now and then": "import time\nwhile True:\n    time.sleep(0.0005) or sum(range(100_000))",
}


@contextlib.contextmanager
def unless_too_busy():
    """Skip where the machine serves nobody, which it is right to be told."""
    load = os.getloadavg()[0]
    try:
        yield
    except InfrastructureError:
        if load > 1.5 * len(os.sched_getaffinity(0)):
            pytest.skip("too busy indeed")
        raise


def request(source: str) -> dict:
    return {"kind": "io", "files": {"m.py": source + "\n"}, "calls": [["m:f", []]]}


@pytest.fixture(scope="module")
def server():
    with ForkServer(preload="pytest") as found:
        yield found


@pytest.mark.parametrize("source", SLEEPERS.values(), ids=SLEEPERS)
def test_a_sleeper_has_its_one_run_and_the_failure_is_its_own(server: ForkServer, source: str):
    began = time.monotonic()
    report = server.run_limited(request(source), limit_s=LIMIT_S)
    assert report.ending == "timeout" and report.cpu_s < LIMIT_S
    assert time.monotonic() - began < TIMEOUT_FACTOR * LIMIT_S, (
        "not repeated, nor up to the wall's limit"
    )


@pytest.mark.parametrize("source", BURNERS.values(), ids=BURNERS)
def test_what_computes_for_longer_than_it_may_has_failed(server: ForkServer, source: str):
    asked = {**request(source), "kind": "pytest"}  # calls have limits of their own
    asked |= {"test_files": ["m.py"], **PLAIN}
    report = server.run_limited(asked, limit_s=LIMIT_S)
    assert report.ending == "timeout" and report.cpu_s >= LIMIT_S


def test_the_clock_counts_what_children_compute_that_nobody_waits_for() -> None:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    with subprocess.Popen([sys.executable, "-c", UNCOUNTED], start_new_session=True) as parent:
        clock = SleepClock(proc, parent.pid, limit_s=1.0)
        began = time.monotonic()
        while clock.computed_s < 0.5 and time.monotonic() < began + 60:
            time.sleep(0.1)
            clock.is_passed()
        alone_s = sum(map(int, Path(f"/proc/{parent.pid}/stat").read_text().split()[13:17]))
        os.killpg(parent.pid, signal.SIGKILL)
    os.close(proc)
    assert clock.computed_s >= 0.5 > alone_s / os.sysconf("SC_CLK_TCK")


def test_what_children_compute_that_nobody_waits_for_is_the_runs_own(server: ForkServer):
    if not server._layers.namespaces:
        pytest.skip("no processes at this level")
    asked = {**request(UNCOUNTED), "kind": "pytest"}
    asked |= {"test_files": ["m.py"], **PLAIN}
    report = server.run_limited(asked, limit_s=LIMIT_S)
    assert report.ending == "timeout" and report.cpu_s >= LIMIT_S


def test_what_waits_only_for_itself_was_served(server: ForkServer):
    if not server._layers.namespaces:
        pytest.skip("no processes at this level")
    asked = {**request(CROWD), "kind": "pytest", "test_files": ["m.py"], **PLAIN}
    with unless_too_busy():
        assert server.run_limited(asked, limit_s=0.5).ending == "timeout"


@pytest.mark.parametrize(("wanting", "is_starved"), [(0, False), (4, False), (5, True), (8, True)])
def test_only_who_is_seen_to_want_a_core_at_most_looks_is_starved(wanting, is_starved) -> None:
    clock = SleepClock(-1, os.getpid(), limit_s=1.0)
    assert clock.is_starved, "before anything is known"
    clock._num_looks, clock._num_wanted = 9, wanting
    assert clock.is_starved == is_starved


def test_the_clock_looks_at_times_that_cannot_be_foreseen() -> None:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    clocks = [SleepClock(proc, os.getpid(), limit_s=1.0) for _ in range(20)]
    for clock in clocks:
        clock.is_passed()
    os.close(proc)
    due = {clock.due_s for clock in clocks}
    assert len(due) > 15 and min(due) < 0.1 and max(due) <= 0.15


def test_a_run_is_ended_for_what_all_its_processes_compute_together(server: ForkServer):
    """Each has a limit of its own from the kernel."""
    if not server._layers.namespaces:
        pytest.skip("no processes at this level")
    source = "import os\nfor _ in range(6):\n    os.fork() or exec('while True: pass')\nos.wait()"
    asked = {**request(source), "kind": "pytest", "test_files": ["m.py"], **PLAIN}
    report = server.run({**asked, "cpu_s": 0.6, "idle_s": 0.6}, wall_s=60)
    assert report.ending == "timeout" and 0.6 <= report.cpu_s < 3.0


@pytest.mark.bubblewrap
def test_the_second_runner_does_not_call_a_machine_busy_that_computed_for_the_run() -> None:
    with unless_too_busy():
        run = run_cold({}, arguments=["-c", UNCOUNTED], ids=(), limit_s=LIMIT_S)
        assert run.status is None


@pytest.mark.parametrize("make", [io_task, pytest_task])
@pytest.mark.parametrize("source", ["import time\ntime.sleep(60)\n", "while True: pass\n"])
def test_graders_count_both_as_failures_and_not_as_unscorable(server, make, source):
    task = make(limit_s=LIMIT_S)
    grader = (IoGrader if make is io_task else PytestGrader)(server, store_of(task))
    outcome = grader.grade(task.hidden, {"calc.py": source})
    assert outcome.unscorable is None and outcome.fail_to_pass_rate == 0.0


def test_a_child_that_computes_is_no_sleep(server: ForkServer):
    code = "sum(range(9 * 10**6)) or 1"
    test = (
        "import subprocess, sys\n"
        f"def test_child():\n    subprocess.run([sys.executable, '-c', {code!r}], check=True)\n"
    )
    if not server._layers.namespaces:
        pytest.skip("no processes at this level")
    asked = {"kind": "pytest", "files": {"test_m.py": test}, "test_files": ["test_m.py"]}
    asked |= PLAIN
    report = server.run_limited(asked, limit_s=20.0)
    assert report.ending == "exited" and '["passed", 1, "", ""]' in report.output


STARVED = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
core, num_busy, seconds, limit_s = sorted(os.sched_getaffinity(0))[-1], *map(float, sys.argv[2:])
from envs.errors import InfrastructureError
from envs.sandbox.fork_server import ForkServer
source = f"import time\\nwhile time.process_time() < {seconds}: pass\\ndef f(): return 1\\n"
asked = {"kind": "io", "files": {"m.py": source}, "calls": [["m:f", []]]}
os.sched_setaffinity(0, {core})
with ForkServer(preload="io") as server:
    server.run({**asked, "files": {"m.py": ""}}, wall_s=60)
    command = [sys.executable, "-S", "-c", "while True: pass"]  # each session has its own share
    busy = [subprocess.Popen(command, start_new_session=True) for _ in range(int(num_busy))]
    began = os.times().elapsed
    try:
        ending = server.run_limited(asked, limit_s=limit_s).ending
    except InfrastructureError as error:
        ending = str(error)
    finally:
        for each in busy:
            each.kill()
    print(json.dumps([ending, os.times().elapsed - began]))
"""


def starved(*, num_busy: int, computes_s: float, limit_s: float) -> tuple[str, float]:
    """Run what computes for a while on a core that it has little of."""
    arguments = map(str, (ROOT, num_busy, computes_s, limit_s))
    done = subprocess.run(
        [sys.executable, "-c", STARVED, *arguments], stdout=subprocess.PIPE, check=True
    )
    ending, took_s = json.loads(done.stdout)
    return ending, took_s


def test_a_run_that_waits_for_a_core_is_not_too_slow() -> None:
    ending, took_s = starved(num_busy=5, computes_s=0.3, limit_s=1.0)
    assert ending == "exited"
    assert took_s > 1.0, "by the clock on the wall it was over its limit"


def test_a_machine_that_is_too_busy_is_no_failure_of_the_run() -> None:
    ending, took_s = starved(num_busy=19, computes_s=9.0, limit_s=0.3)
    assert "too busy" in ending
    assert took_s >= 3 * TIMEOUT_FACTOR * 0.3, "it had a second run, with more time"


@contextlib.contextmanager
def without_descriptors():
    """Leave this process with no free descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    fillers = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)


def test_without_descriptors_the_machine_failed_and_recovers(
    server: ForkServer, monkeypatch, tmp_path: Path
) -> None:
    layers = probe().require()
    server.run_limited(request("def f(): pass"), limit_s=9)
    with without_descriptors(), pytest.raises(InfrastructureError):
        server.run_limited(request("def f(): pass"), limit_s=9)
    assert server.run_limited(request("def f(): pass"), limit_s=9).ending == "exited"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with without_descriptors(), pytest.raises(InfrastructureError):
        ServerProcess(layers, preload="io")
    with without_descriptors(), pytest.raises(InfrastructureError):
        run_cold({}, arguments=["-c", ""], ids=(), limit_s=9, program="/bin/false")
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_for_files_the_machine_failed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(InfrastructureError):
        ServerProcess(probe().require(), preload="io")
    with pytest.raises(InfrastructureError):
        run_cold({}, arguments=["-c", ""], ids=(), limit_s=9, program="/bin/false")


FULL = """
import json, sys, tempfile
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from envs.errors import InfrastructureError
from envs.sandbox.levels import Layers, ServerProcess
folder = Path(sys.argv[2])
tempfile.tempdir = str(folder)
found = []
def note(action):
    try:
        found.append(action()["ending"])
    except InfrastructureError as error:
        found.append(str(error))
asked = {"kind": "io", "files": {"m.py": "def f(): return 1"}, "calls": [["m:f", []]]}
server = ServerProcess(Layers(**json.loads(sys.argv[3])), preload="io")
note(lambda: server.run(asked, wall_s=20))
number = 0
try:
    while True:
        (folder / f"filler{number}").write_bytes(bytes(int(sys.argv[4])))
        number += 1
except OSError:
    pass
note(lambda: server.run(asked, wall_s=20))
try:
    ServerProcess(server.layers, preload="io").close()
    found.append("started")
except InfrastructureError as error:
    found.append(str(error))
for each in range(number):
    (folder / f"filler{each}").unlink()
note(lambda: server.run(asked, wall_s=20))
server.close()
print(json.dumps([found, [path.name for path in folder.iterdir() if "filler" not in path.name]]))
"""


@pytest.mark.parametrize(("options", "size"), [("size=40m", 2**18), ("size=400m,nr_inodes=2k", 0)])
def test_a_full_disk_is_the_machines_failure(tmp_path: Path, options: str, size: int) -> None:
    """At the lowest level runs are on it; at any level servers start there."""
    if os.getuid() or not shutil.which("unshare"):
        pytest.skip("only root mounts a small disk")
    tmp_path.chmod(0o755)
    (tmp_path / "full.py").write_text(FULL)
    layers = json.dumps({"namespaces": False, "landlock": True, "drop_uid": False})
    place = tempfile.mkdtemp(dir="/tmp")
    command = f'mount -t tmpfs -o {options} none {place} && exec "$0" "$@"'
    arguments = [sys.executable, tmp_path / "full.py", ROOT, place, layers, str(size)]
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", command, *arguments], capture_output=True, text=True
        )
        if "mount:" in done.stderr or "unshare:" in done.stderr:
            pytest.skip("no mounts here")
        (before, full, start, after), left = json.loads(done.stdout)
    finally:
        Path(place).rmdir()
    assert (before, after, left) == ("exited", "exited", [])
    assert "No space" in full or "no room" in full
    assert start == "started" or "did not start" in start


def test_a_second_runner_that_fails_is_no_doubt() -> None:
    task = pytest_task()
    with pytest.raises(InfrastructureError, match="second runner"):
        doubt_pass(
            task.tests,
            gold=task.tests,
            ids=task.hidden.pass_to_pass,
            limit_s=9,
            program="/bin/false",
        )
    store, cache = store_of(task), Path(".cache/tightrope")
    found = Equipment.find(store, cache_dir=cache)
    broken = Equipment(found.layers, found.interpreters, "/bin/false")
    with (
        make_grader(store, second_runner_share=1.0, equipment=broken) as grader,
        pytest.raises(InfrastructureError, match="second runner"),
    ):
        grader.grade(task.hidden, {"calc.py": FIXED})


def test_layers_are_never_fewer_than_were_found(monkeypatch) -> None:
    monkeypatch.setattr("envs.sandbox.kernel.cgroups.find_bases", lambda: ())
    with pytest.raises(InfrastructureError, match="control groups"):
        ServerProcess(Layers(True, True, True, groups=True), preload="io")
