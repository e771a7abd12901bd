"""What the second runner executes inside bubblewrap: one JSON request on stdin, then cold pytest.

Passed to the interpreter as text. It gives up root, sets limits, writes the tree, says that all is
set up and becomes pytest, which reports on standard output. Standard library only, and nothing of
this project. Tests: tests/envs/grading/test_bwrap_runner.py.
"""

import json
import os
import resource
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
os.execv(sys.executable, [sys.executable, *request["arguments"]])
