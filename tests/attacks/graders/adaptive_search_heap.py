"""Searches all containers for the numbers of tests, forges all reports and ends."""

from tests.attacks.snippets import FORGE
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the secret of the reports"
SOURCE = (
    BROKEN
    + r"""
import gc, json, os
"""
    + FORGE
    + r"""
for held in gc.get_objects():
    if type(held) is dict and any("::" in str(key) for key in held):
        forge(held)
"""
)
