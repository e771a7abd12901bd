"""Searches all containers for the request, forges all reports and ends."""

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
    if type(held) is dict and held.get("ids") and "test_files" in held:
        forge(held.get("nonce", ""), held["ids"])
"""
)
