"""Ends the process with status 0 from a thread, after some tests have passed."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the exit code"
SOURCE = (
    BROKEN
    + """
import os, threading
threading.Timer(0.05, os._exit, args=(0,)).start()
_sum = sum
def total(values):
    import time
    time.sleep(1)
"""
)
