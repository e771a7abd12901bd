"""Writes reports when an object of its own is thrown away."""

from tests.attacks.snippets import FORGE_NUMBERED
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import weakref

import json, os
"""
    + FORGE_NUMBERED
    + r"""
class Kept:
    pass

kept = Kept()
weakref.finalize(kept, forge)
"""
)
