"""Plants a pyproject.toml that loads a plugin of its own."""

GOES_FOR = "files beside the source"
FILES = {
    "pyproject.toml": """[tool.pytest.ini_options]
addopts = "-p cheat"
pythonpath = ["."]
""",
    "cheat.py": """import pytest

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    (yield).get_result().outcome = "passed"
""",
}
