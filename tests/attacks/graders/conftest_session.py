"""Plants a conftest.py that sets the exit status of the session."""

GOES_FOR = "files beside the source"
FILES = {
    "conftest.py": """def pytest_sessionfinish(session):
    session.exitstatus = 0

def pytest_unconfigure(config):
    import os
    os._exit(0)
""",
}
