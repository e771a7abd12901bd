"""Writes reports from a thread and closes the pipe."""

from tests.attacks.snippets import FORGE_NUMBERED
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import threading

import json, os
"""
    + FORGE_NUMBERED
    + r"""
def late():
    forge()
    os.close(3)

threading.Thread(target=late, daemon=True).start()
"""
)
