"""Reaches the frames above it through a generator that runs."""

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
def probe():
    yield running[0].gi_frame.f_back

running = []
running.append(probe())
climb(next(running[0]))
"""
)
