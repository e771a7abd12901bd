"""Writes reports when an object of its own is thrown away."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import weakref

import json, os

NAMES = ["total[values0-3]", "total[values1-5]", "total[values2-0]", "first"]

def forge():
    for name in NAMES:
        for phase in ("setup", "call", "teardown"):
            line = ["", phase, f"tests/test_calc.py::test_{name}", "passed", ""]
            os.write(3, (json.dumps(line) + "\n").encode())

class Kept:
    pass

kept = Kept()
weakref.finalize(kept, forge)
"""
)
