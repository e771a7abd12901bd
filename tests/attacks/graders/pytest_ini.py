"""Plants a pytest.ini that has the tests collected but not run."""

GOES_FOR = "files beside the source"
FILES = {
    "pytest.ini": """[pytest]
addopts = --collect-only
""",
}
