"""Writes lines that are hard to parse to the pipe for results."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the result pipe"
SOURCE = (
    BROKEN
    + r"""
import os
odd = [b"[NaN, 1e999]", b"\x85\x00", b'{"call": 1e9}', b"\xff" * 99]
for line in (b"[" * 10**6, b"9" * 10**5, *odd):
    os.write(3, line + b"\n")
"""
)
