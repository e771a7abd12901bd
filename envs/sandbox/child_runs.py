"""What runs inside the sandbox, in the candidate's own process: calls, tests, and a self-test.

Everything here shares its process with submitted code, which may read, patch or forge all of it.
So nothing here knows an expected value, and what it reports is judged on the trusted side only.
Results go to a bounded pipe, one JSON object a line, each written at once so that a later crash
does not take earlier results with it. Standard library only.
Tests: tests/envs/grading/test_graders.py.
"""

import importlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from envs.sandbox.child_coverage import LineTrace
from envs.sandbox.child_recorder import CallRecorder
from envs.sandbox.child_reporter import Reporter, Timekeeper
from envs.sandbox.encoding import encode_value
from envs.sandbox.framing import TICKETS_FD, write_whole
from envs.source_text import file_bytes

FIRST_TIMEOUT_S, LATER_TIMEOUT_S = 0.5, 0.1  # CPU seconds for one call, before and after one hung
_STALLED_CPU_S = 0.002  # in a second, of a process that waits for a lock and looks after itself
_MAX_MESSAGE = 300  # characters of an exception's text
_MAX_REPORT = 4_000  # characters of a failed test's report, if it is to be explained


class CallTimeoutError(BaseException):
    """Raised inside a call that used up its CPU time; no `except Exception` catches it."""


def run_io(request: dict[str, Any], scratch: Path, writer: int) -> None:
    """Call functions of the submitted modules and write their encoded results.

    Args:
        request: `calls`, a list of ["module:function", arguments]; `files` are written already.
        scratch: The run's private folder.
        writer: Descriptor of the result pipe.
    """
    sys.path.insert(0, str(scratch / "work"))
    broken: dict[str, str] = {}
    timeout_s = FIRST_TIMEOUT_S
    for index, (function, arguments) in enumerate(request["calls"]):
        module, _, name = function.partition(":")
        result: dict[str, Any] = {"call": index}
        try:
            with cpu_limit(timeout_s):
                if module in broken:
                    result["error"] = broken[module]
                else:
                    called = _import(module, broken)
                    result["value"] = encode_value(getattr(called, name)(*arguments))
        except CallTimeoutError:
            result["error"] = "ran too long"
            timeout_s = LATER_TIMEOUT_S
        except BaseException as error:  # SystemExit and the like are the candidate's too
            result["error"] = broken.get(module) or f"raised {_describe(error)}"
        write_line(writer, result)


def run_pytest(
    request: dict[str, Any], scratch: Path, writer: int, tickets: int = TICKETS_FD
) -> None:
    """Run test files with pytest and write what becomes of each test.

    Args:
        request: `files`; `test_files` to collect in this order, none for what pytest finds; `ids`
            to keep (None: all); `config`, pytest's configuration file, or None, and `options`;
            `paths` to import from; `environment`; `explain` failing tests; perhaps `names_test`, to
            have pytest say in the environment which test runs, `skip`, tests that are not run;
            `trace`, the files whose executed lines are to be noted, and `backwards`, or `record`,
            those whose calls are; `stall_s`; `budget_s`, seconds for all tests; `order`, which
            draws the order of the tests; or `elsewhere`, see `_go_elsewhere`.
        scratch: The run's private folder.
        writer: Descriptor of the result pipe.
        tickets: Descriptor of the pipe with a ticket for each line.
    """
    import pytest

    if not request.get("names_test"):  # it tells what a parametrised test expects
        vars(sys.modules["_pytest.runner"])["_update_current_test_var"] = lambda *_: None
    words = _list_words()
    work = _go_elsewhere(scratch) if request.get("elsewhere") else scratch / "work"
    words |= {f"{work}/": "", str(work): ".", os.environ.get("TMPDIR", "/tmp"): "/tmp"}
    paths = [str(work / path) for path in request["paths"]]
    sys.path[:0] = paths
    os.environ |= request["environment"]
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(paths)}
    time.tzset()
    arguments = _list_arguments(request, work, scratch)
    plugin = Reporter(
        writer,
        tickets,
        ids=request["ids"],
        test_files=request["test_files"],
        skip=frozenset(request.get("skip", ())),
        max_text=_MAX_REPORT if request["explain"] else _MAX_MESSAGE,
        words=words,
    )
    plugins: list[object] = [plugin]
    if "order" in request:
        plugins.append(_RandomOrder(request["order"]))
    if "stall_s" in request:
        _end_if_stalled(request["stall_s"], lambda: plugin.write("stalled"))
    if "budget_s" in request:
        plugins.append(Timekeeper(request["budget_s"], write=plugin.note_time))
    watch = _start_to_watch(request, plugin, work)
    plugins += [watch] if watch else []
    request.clear()  # frames above this one hold it too
    # A real file: what is tested may hand sys.stderr to a process.
    with (scratch / "tmp" / "stderr").open("w+", encoding="utf-8", errors="replace") as said:
        with redirect_stderr(said):
            code = pytest.main(arguments, plugins=plugins)
        if code == pytest.ExitCode.USAGE_ERROR:  # a conftest that cannot be imported
            said.seek(0)
            plugin.write("collect", "conftest.py", "failed", said.read())
    if watch:
        watch.finish()
    plugin.write("done")


def _list_arguments(request: dict[str, Any], work: Path, scratch: Path) -> list[str]:
    """Return pytest's command line; a project without a configuration gets an empty one."""
    ini = scratch / "tmp" / "trusted.ini"
    ini.write_text("[pytest]\n", "utf-8")
    config = work / request["config"] if request["config"] else ini
    arguments = ["-c", str(config), f"--rootdir={work}", f"--confcutdir={work}"]
    arguments += request["options"]
    # Nobody reads what tests print; `capsys` and `capfd` still do.
    arguments += ["--continue-on-collection-errors", "--color=no", "--capture=no", "--maxfail=0"]
    # A traceback with source lines parses a whole file for each of its entries.
    arguments += [f"--tb={'short' if request['explain'] else 'line'}"]
    return [*arguments, *request["test_files"]]


def warm_up_pytest(folder: Path) -> None:
    """Run one test that passes and one that fails, so that every fork has all of pytest loaded."""
    for name in ("work", "tmp"):
        (folder / name).mkdir()
    test = "def test_green():\n    pass\ndef test_red():\n    assert [1] == [2]\n"
    files = {"test_warm.py": test}
    request: dict[str, Any] = {"files": files, "test_files": ["test_warm.py"]}
    write_files(files, folder / "work")
    before = os.getcwd()  # noqa: PTH109 (a string is what chdir takes back)
    null, zeros = os.open(os.devnull, os.O_WRONLY), os.open("/dev/zero", os.O_RDONLY)
    os.chdir(folder / "work")
    usual: dict[str, Any] = {"ids": None, "config": None, "options": [], "explain": True}
    usual |= {"paths": ["."], "environment": {}, "names_test": True}
    run_pytest(request | usual, folder, null, zeros)
    sys.path.remove(str(folder / "work"))
    for name in ("PYTHONPATH", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        del os.environ[name]
    os.chdir(before)
    os.close(null)
    os.close(zeros)
    sys.modules.pop("test_warm", None)


def run_selftest(request: dict[str, Any], scratch: Path, writer: int) -> None:
    """Try what must be denied and what must work; write the names of what went wrong.

    Args:
        request: `secret`, the path of a readable file outside the sandbox.
        scratch: The run's private folder.
        writer: Descriptor of the result pipe.
    """
    secret = Path(request["secret"])
    denied: dict[str, Callable[[], object]] = {
        "reading outside": lambda: secret.read_bytes(),
        "writing outside": lambda: secret.with_name("written").write_bytes(b""),
        "sockets": _open_socket,
    }
    wrong = [f"{name} is not denied" for name, attempt in denied.items() if _works(attempt)]
    allowed: dict[str, Callable[[], object]] = {
        "writing inside": lambda: (scratch / "work" / "file").write_bytes(b"x"),
        "importing the standard library": lambda: importlib.import_module("tarfile"),
    }
    wrong += [f"{name} fails" for name, attempt in allowed.items() if not _works(attempt)]
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    wrong += ["memory is not limited"] if limit == resource.RLIM_INFINITY else []
    write_line(writer, {"wrong": wrong})


def _list_words() -> dict[str, str]:
    """Return what stands in messages for folders that are others on another machine."""
    return {sys.executable: "python"} | {folder: "PYTHON" for folder in sys.path if folder}


def _go_elsewhere(scratch: Path) -> Path:
    """Make this run differ in what differs between machines and days; return its new folder.

    That is the folder, that of temporary files, the process id and the local date. What a test
    says of these is another text then.
    """
    work, temporary = scratch / "work-elsewhere", scratch / "tmp" / "elsewhere"
    (scratch / "work").rename(work)
    temporary.mkdir()
    os.chdir(work)
    os.environ |= {"HOME": str(temporary), "TMPDIR": str(temporary), "TZ": "LATER-23:59"}
    own_id = os.getpid
    os.getpid = lambda: own_id() + 1_000
    return work


def _start_to_watch(
    request: dict[str, Any], reporter: Reporter, work: Path
) -> LineTrace | CallRecorder | None:
    """Start what notes the lines that tests execute, or the calls that they make, if asked for."""
    watch: LineTrace | CallRecorder | None = None
    if "trace" in request:
        files = [str(work / name) for name in request["trace"]]
        watch = LineTrace(files, backwards=request["backwards"], write=reporter.note_lines)
    elif "record" in request:
        own = {str(work / name): name for name in request["record"]}
        watch = CallRecorder(own, write=reporter.note_call)
    if watch:
        watch.start()
    return watch


class _RandomOrder:
    """Runs tests in random order: those of a class together, and the classes of a module."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        ranks: dict[Any, float] = {}
        for node in (node for item in items for node in item.listchain()):
            if node not in ranks:
                ranks[node] = self._random.random()
        items.sort(key=lambda item: [ranks[node] for node in item.listchain()])


def write_files(files: dict[str, str], folder: Path) -> None:
    """Write the submitted files; what no UTF-8 can hold makes a file that is no Python."""
    made = {folder}
    for name, text in files.items():
        path = folder / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(file_bytes(name, text))


def write_line(writer: int, message: object) -> None:
    """Write a line of JSON to the result pipe, whole."""
    write_whole(writer, json.dumps(message).encode("ascii") + b"\n")


def _import(name: str, broken: dict[str, str]) -> Any:
    try:
        return importlib.import_module(name)
    except CallTimeoutError:
        broken[name] = f"importing {name} ran too long"
        raise
    except BaseException as error:
        broken[name] = f"importing {name} raised {_describe(error)}"
        raise


def _describe(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # its __str__ is the candidate's
        text = ""
    name = type(error).__name__
    return f"{name}: {text[:_MAX_MESSAGE]}" if text else name


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise `CallTimeoutError` in what has used up its CPU seconds, again and again."""

    def stop(*_: object) -> None:
        raise CallTimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, LATER_TIMEOUT_S)  # again, should it be swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _end_if_stalled(limit_s: int, note: Callable[[], None]) -> None:
    """End this process after as many seconds in which it is served, but does not want to compute.

    A process that waits for a core is not stalled: the signals wait with it, so it has computed
    when they come.
    """
    seen = [time.process_time()]

    def look(*_: object) -> None:
        seen.append(time.process_time())
        if len(seen) > limit_s and seen[-1] - seen[-1 - limit_s] < _STALLED_CPU_S * limit_s:
            note()
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ImportError):
        return False
    return True


def _open_socket() -> None:
    import socket

    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
