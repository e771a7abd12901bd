"""Reaches the frames above it through a coroutine that runs."""

from tests.attacks.snippets import CLIMB, FORGE
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the secret of the reports"
SOURCE = (
    BROKEN
    + r"""
import json, os
"""
    + FORGE
    + r"""
"""
    + CLIMB
    + r"""
async def probe():
    climb(running[0].cr_frame.f_back)

running = []
running.append(probe())
try:
    running[0].send(None)
except StopIteration:
    pass
"""
)
