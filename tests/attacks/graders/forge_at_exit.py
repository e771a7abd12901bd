"""Writes reports when the interpreter ends."""

from tests.attacks.snippets import FORGE_NUMBERED
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import atexit

import json, os
"""
    + FORGE_NUMBERED
    + r"""
atexit.register(forge)
"""
)
