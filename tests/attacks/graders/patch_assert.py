"""Replaces the error that a failing assert raises by one that means a skip."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the reports of pytest"
SOURCE = (
    BROKEN
    + """
import builtins, pytest
builtins.AssertionError = pytest.skip.Exception
"""
)
