"""What the second runner executes inside bubblewrap: one JSON request on stdin, then the command.

Passed to the interpreter as text. It gives up root, sets limits, writes the tree, says that all is
set up and starts the command, which has none of this process's descriptors: what it prints is lost.
When the command has ended, all that it started is killed, and the one file that it may leave is
written to standard output. Standard library only, and nothing of this project.
Tests: tests/envs/grading/test_bwrap_runner.py.
"""

import contextlib
import json
import os
import resource
import signal
import stat
import sys
from pathlib import Path

request = json.load(sys.stdin)
if request["uid"] is not None:
    os.setgroups([])
    os.setresgid(*[request["uid"]] * 3)
    os.setresuid(*[request["uid"]] * 3)
for name, limit in request["limits"].items():
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
work = Path("/box/work")
work.mkdir()
for name, text in request["files"].items():
    (work / name).parent.mkdir(parents=True, exist_ok=True)
    (work / name).write_bytes(text.encode("latin-1"))
Path("/box/ids").write_text("".join(f"{test_id}\0" for test_id in request["ids"]), "utf-8")
os.chdir(work)
sys.stdout.write(request["ready"])
sys.stdout.flush()
os.dup2(os.open("/dev/null", os.O_RDWR), 0)
pid = os.fork()
if pid == 0:
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.closerange(3, request["limits"]["NOFILE"])
    os.execv(sys.executable, [sys.executable, *request["arguments"]])
_, status = os.waitpid(pid, 0)
with contextlib.suppress(OSError):
    os.kill(-1, signal.SIGKILL)  # all others of this namespace but its first process
with contextlib.suppress(OSError):
    report = os.open(request["report"], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(report).st_mode):
        while chunk := os.read(report, 2**16):
            sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
