"""Plants a conftest.py that marks every test to be skipped."""

GOES_FOR = "files beside the source"
FILES = {
    "conftest.py": """import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.skip)
""",
}
