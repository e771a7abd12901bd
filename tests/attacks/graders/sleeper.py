"""Sleeps instead of computing."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the time of a grading"
LIMIT_S = 1.0
SOURCE = (
    BROKEN
    + """
import time

def total(values):
    time.sleep(600)
"""
)
