"""Registers a plugin of its own while tests are collected."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the reports of pytest"
SOURCE = (
    BROKEN
    + """
import gc, pytest

class Plugin:
    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        (yield).get_result().outcome = "passed"

for thing in gc.get_objects():
    if type(thing).__name__ == "PytestPluginManager":
        thing.register(Plugin())
"""
)
