"""Plants a conftest.py that expects every test to fail."""

GOES_FOR = "files beside the source"
FILES = {
    "tests/conftest.py": """import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xfail)
""",
}
