"""Writes reports of passed tests to every descriptor."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import json, os
ids = ["tests/test_calc.py::test_total[values%d-%d]" % pair for pair in [(0, 3), (1, 5), (2, 0)]]
ids.append("tests/test_calc.py::test_first")
write = getattr(os, "write")
for number in range(3, 64):
    for test_id in ids:
        for phase in ("setup", "call", "teardown"):
            try:
                write(number, (json.dumps(["", phase, test_id, "passed", ""]) + "\n").encode())
            except OSError:
                pass
"""
)
