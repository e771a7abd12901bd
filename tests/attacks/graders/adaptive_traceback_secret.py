"""Takes the reporter out of frames that a traceback leads to, forges all and ends."""

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
try:
    raise LookupError
except LookupError as error:
    climb(error.__traceback__.tb_frame)
"""
)
