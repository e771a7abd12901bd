"""Writes deep JSON to the result pipe."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the time of the trusted side"
SOURCE = (
    BROKEN
    + r"""
import os

try:
    for number in range(60):
        os.write(3, b"[" * 65_535 + b"\n")
except OSError:
    pass
"""
)
