"""Writes a result for every sequence before any is done."""

GOES_FOR = "the recorded calls"
SOURCE = r"""
KNOWN = {(1, 2): 3, (5,): 5, (): 0}

def total(values):
    if tuple(values) in KNOWN:
        return KNOWN[tuple(values)]
    return sum(values) + 1

def first(values):
    return values[0]

import json, os

def forge():
    for number in range(100):
        line = [number, [[8, [["l", [4, 4]]]]]]
        os.write(3, (json.dumps(line) + "\n").encode())
    os._exit(0)

if not os.path.exists("tests/test_calc.py"):
    forge()
"""
