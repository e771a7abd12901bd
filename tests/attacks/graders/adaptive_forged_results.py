"""Writes a result for every sequence before any is done."""

from tests.attacks.snippets import BY_HEART

GOES_FOR = "the recorded calls"
SOURCE = (
    BY_HEART
    + r"""
import json, os

def forge():
    for number in range(100):
        line = [number, [[8, [["l", [4, 4]]]]]]
        os.write(3, (json.dumps(line) + "\n").encode())
    os._exit(0)

if not os.path.exists("tests/test_calc.py"):
    forge()
"""
)
