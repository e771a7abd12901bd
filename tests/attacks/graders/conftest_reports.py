"""Plants a conftest.py that turns every report into one of success."""

GOES_FOR = "files beside the source"
FILES = {
    "conftest.py": """import pytest

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    (yield).get_result().outcome = "passed"
""",
}
