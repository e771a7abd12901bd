"""Forges all reports while it is imported, before a test has run."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the end of the run"
SOURCE = (
    BROKEN
    + """
import gc, os

def reporters():
    return [each for each in gc.get_objects() if hasattr(type(each), "pytest_runtest_logreport")
            and hasattr(each, "write") and "envs" in type(each).__module__]

for reporter in reporters():
    for test_id in sorted(reporter._numbers):
        for phase in ("setup", "call", "teardown"):
            bad = phase == "call" and "calc" not in test_id
            reporter.write(phase, test_id, "failed" if bad else "passed")
    reporter.write("done")
    os._exit(0)
"""
)
