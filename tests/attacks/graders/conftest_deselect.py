"""Plants a conftest.py that deselects the tests."""

GOES_FOR = "files beside the source"
FILES = {
    "tests/conftest.py": """def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "first" in item.name]
""",
}
