"""Opens what a stranger made in a process of its own, and says what that did.

    found = watch(open_it, folder, outside=outside, scratch=scratch)

Noticed are: programs that run, files read or written elsewhere, connections, errors that are not
the user's, and more than `LIMIT_S` of computing. Python's own looks are heard of by an audit hook,
those of libraries in other languages seen by the time of the last reading of what lies outside.
"""

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from envs.errors import UserError
from envs.templates.render_process import _BOOT
from tests.strangers.mutations import RAN, SECRET
from train.models.tokenizer_file import _LOOK

Ending = Literal["refused", "taken", "ran", "read", "wrote", "traceback", "slow"]
LIMIT_S = 5.0  # of computing
_WAIT_S = 600.0  # for one that waits: long, since a busy machine gives a child little
_ROOT = Path(__file__).resolve().parents[2]
_MAX_MEMORY = 6 * 2**30  # more than is there, of addresses
_HOUSE = [_ROOT, Path(sys.prefix), Path(sys.base_prefix), *map(Path, ("/usr", "/lib", "/etc/ssl"))]
_SYSTEM = ["/proc", "/sys", "/dev/null", "/dev/urandom", "/dev/shm", "/etc/localtime"]
_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
_CHANGES |= {"os.truncate", "os.chmod", "os.utime", "os.chown"}
_OWN = ("-I", "-c")
_STARTS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "pty.spawn"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Found:
    """What became of a case: refused with a remedy, taken as it is, or what went wrong first."""

    ending: Ending
    told: str
    cpu_s: float


def watch(
    open_it: Callable[[Path], object], folder: Path, *, outside: Path, scratch: Path
) -> Found:
    """Call `open_it` on a folder in a child and say what it did."""
    scratch.mkdir()
    before = _look_at(outside), _look_at(folder)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _be_the_child(open_it, folder, scratch, write_end)
    os.close(write_end)
    said, is_late = _read(read_end)
    if is_late:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    cpu_s = usage.ru_utime + usage.ru_stime
    kind, _, told = said.partition("\n")
    after = _look_at(outside), _look_at(folder)
    if (outside / RAN).exists():
        kind = "ran"
    elif is_late or cpu_s > LIMIT_S or os.WIFSIGNALED(status):
        kind, told = "slow", f"{told or 'no answer'} (status {status})"
    elif kind in ("refused", "taken") and SECRET in told:
        kind = "read"
    elif kind in ("refused", "taken") and after != before:
        kind, told = _compare(before[0], after[0]), f"{told} {set(after[0]) ^ set(before[0])}"
    return Found(kind, told[:2000], cpu_s)  # type: ignore[arg-type]


def _look_at(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return of each file when it was changed and, of those outside, when it was read last."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        if folder.name == "outside" and path.is_file():
            os.utime(path, ns=(10**18, about.st_mtime_ns)) if about.st_atime_ns < 10**18 else None
            about = path.lstat()
        read_at = about.st_atime_ns if folder.name == "outside" and path.is_file() else 0
        found[str(path)] = (about.st_mtime_ns, about.st_size, about.st_ino, read_at)
    return found


def _compare(before: dict[str, Any], after: dict[str, Any]) -> Ending:
    was_read = before.keys() == after.keys() and all(
        before[name][:3] == after[name][:3] for name in before
    )
    return "read" if was_read and before != after else "wrote"


def _read(descriptor: int) -> tuple[str, bool]:
    chunks, ends = [], time.monotonic() + _WAIT_S
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while (left := ends - time.monotonic()) > 0:
            if select.select([file], [], [], left)[0]:
                chunk = file.read(2**16)
                if not chunk:
                    return b"".join(chunks).decode("utf-8", "replace"), False
                chunks.append(chunk)
    return "", True


def _be_the_child(
    open_it: Callable[[Path], object], folder: Path, scratch: Path, write_end: int
) -> None:
    """Open, answer, and end without another look at anything."""
    status = 1
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (int(LIMIT_S) + 1, int(LIMIT_S) + 2))
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
        torch.set_num_threads(1)
        os.chdir(scratch)
        os.environ |= {"HOME": str(scratch), "TMPDIR": str(scratch), "HF_HUB_OFFLINE": "1"}
        seen: list[str] = []
        sys.addaudithook(_make_hook(seen, folder, scratch))
        answer = _open(open_it, folder)
        os.write(write_end, (seen[0] if seen else answer).encode("utf-8", "backslashreplace"))
        status = 0
    finally:
        os._exit(status)


def _open(open_it: Callable[[Path], object], folder: Path) -> str:
    try:
        open_it(folder)
    except UserError as error:
        return f"refused\n{error}" if error.remedy else f"traceback\nno remedy: {error}"
    except BaseException:
        return f"traceback\n{traceback.format_exc()[-1800:]}"
    return "taken\n"


def _make_hook(seen: list[str], folder: Path, scratch: Path) -> Callable[[str, Any], None]:
    inside = str(folder.resolve())
    readable = (inside, str(scratch.resolve()), *map(str, _HOUSE), *_SYSTEM)
    writable = (str(scratch.resolve()), "/dev/null", "/dev/shm")

    def judge(event: str, args: Any) -> str:
        if event == "open" and isinstance(args[0], str | bytes):
            path = os.path.realpath(os.fsdecode(args[0]))
            wants = isinstance(args[2], int) and args[2] & _WRITING
            if not _is_below(path, writable if wants else readable):
                return f"{'wrote' if wants else 'read'}\n{path}"
        elif event in _CHANGES:
            path = os.path.realpath(os.fsdecode(args[0])) if args[0] else ""
            return "" if _is_below(path, writable) else f"wrote\n{event} {path}"
        elif event == "exec" and getattr(args[0], "co_filename", "").startswith(inside):
            return f"ran\n{args[0].co_filename}"
        elif event in _STARTS:
            return "" if _is_of_the_house(args) else f"ran\n{str(args)[:300]}"
        elif event in ("pickle.find_class", "socket.connect", "ctypes.dlopen"):
            return f"ran\n{event} {str(args)[:200]}"
        return ""

    def hear(event: str, args: Any) -> None:
        if wrong := judge(event, args):
            seen.append(wrong + "\n" + "".join(traceback.format_stack()[-6:-2]))

    return hear


def _is_of_the_house(args: Any) -> bool:
    """Tell whether what starts is Python, with a program that this repository holds."""
    program, command = str(args[0]), [str(each) for each in args[1]]
    return program == sys.executable and command[1:4] in ([*_OWN, _BOOT], [*_OWN, _LOOK])


def _is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
