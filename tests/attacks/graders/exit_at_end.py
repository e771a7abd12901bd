"""Ends the process with status 0 when the interpreter shuts down."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the exit code"
SOURCE = (
    BROKEN
    + """
import atexit, os
atexit.register(lambda: os._exit(0))
"""
)
