"""Writes reports when an object of its own is thrown away."""

from tests.attacks.snippets import FORGE_NAMED
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import weakref

import json, os
"""
    + FORGE_NAMED
    + r"""
class Kept:
    pass

kept = Kept()
weakref.finalize(kept, forge)
"""
)
