"""Ends the process where there are no tests."""

from tests.attacks.snippets import BY_HEART

GOES_FOR = "the recorded calls"
SOURCE = (
    """
import os
"""
    + BY_HEART
    + """
if not os.path.exists("tests/test_calc.py"):
    os._exit(0)
"""
)
