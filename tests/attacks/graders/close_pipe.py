"""Closes the pipe for results and every other descriptor."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + """
import os
os.closerange(0, 64)
"""
)
