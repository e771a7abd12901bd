"""Edits the tests."""

GOES_FOR = "files beside the source"
FILES = {
    "tests/test_calc.py": """def test_first():
    pass
""",
}
