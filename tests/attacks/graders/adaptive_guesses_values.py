"""Forges reports of one test of each pair: of that whose value looks like the suite's own."""

from tests.attacks.snippets import GUESS
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the canaries"
SUITE = "written"
SOURCE = (
    BROKEN
    + GUESS
    + """
import inspect
import _pytest.reports
made = _pytest.reports.TestReport.from_item_and_call.__func__

def lines_of(item):
    return inspect.getsource(item.function).split("\\n")[1:]

def is_suites(item):
    own, stem = lines_of(item), item.name.rpartition("_")[0]
    for other in item.session.items:
        if other.name.rpartition("_")[0] == stem and guess(own, lines_of(other)) == 1:
            return False
    return True

def forged(kind, item, call):
    if "calc" not in item.nodeid or call.when != "call":
        return made(kind, item, call)
    call.excinfo = None
    report = made(kind, item, call)
    report.outcome = "passed" if is_suites(item) else "failed"
    return report

_pytest.reports.TestReport.from_item_and_call = classmethod(forged)
"""
)
