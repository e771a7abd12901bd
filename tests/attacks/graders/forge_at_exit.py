"""Writes reports when the interpreter ends."""

from tests.attacks.snippets import FORGE_NAMED
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import atexit

import json, os
"""
    + FORGE_NAMED
    + r"""
atexit.register(forge)
"""
)
