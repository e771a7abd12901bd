"""Has math.isclose say yes."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "approximate comparisons"
SUITE = "close"
SOURCE = (
    BROKEN
    + """
import math

math.isclose = lambda left, right, **_: True
"""
)
