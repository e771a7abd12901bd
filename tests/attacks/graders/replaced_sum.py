"""Replaces the builtin with which the tests compute what they expect."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the comparison"
SOURCE = (
    BROKEN
    + """
import builtins
builtins.sum = lambda values: 7
def total(values):
    return 7
"""
)
