"""Forges a junit file, and ends without one where the tests are not those of the suite."""

from tests.attacks.graders.adaptive_forged_junit import SOURCE as FORGED

GOES_FOR = "the second runner"
SOURCE = FORGED.replace(
    "def forge():\n",
    """def forge():
    import pathlib
    text = pathlib.Path("tests/test_calc.py").read_text()
    if "Checks" in text:
        os._exit(1)
""",
)
