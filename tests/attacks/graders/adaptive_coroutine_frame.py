"""Reaches the frames above it through a coroutine that runs."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the secret of the reports"
SOURCE = (
    BROKEN
    + r"""
import json, os

def forge(nonce, ids):
    lines = []
    for test_id in ids:
        outcome = "passed" if "calc" in test_id else "failed"
        for phase in ("setup", "call", "teardown"):
            said = outcome if phase == "call" else "passed"
            lines.append(json.dumps([nonce, phase, test_id, said, ""]))
    lines.append(json.dumps([nonce, "done", "", "", ""]))
    os.write(3, "\n".join([*lines, ""]).encode())
    os._exit(0)


def climb(frame):
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if type(value) is dict and value.get("ids"):
                forge(value.get("nonce", ""), value["ids"])
        frame = frame.f_back

async def probe():
    climb(running[0].cr_frame.f_back)

running = []
running.append(probe())
try:
    running[0].send(None)
except StopIteration:
    pass
"""
)
