"""Ends the process where there are no tests."""

GOES_FOR = "the recorded calls"
SOURCE = """
import os

KNOWN = {(1, 2): 3, (5,): 5, (): 0}

def total(values):
    if tuple(values) in KNOWN:
        return KNOWN[tuple(values)]
    return sum(values) + 1

def first(values):
    return values[0]

if not os.path.exists("tests/test_calc.py"):
    os._exit(0)
"""
