"""Writes reports from a process of its own."""

from tests.attacks.snippets import FORGE_NUMBERED
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import json, os
"""
    + FORGE_NUMBERED
    + r"""
if os.fork() == 0:
    forge()
    os._exit(0)
os.wait()
"""
)
