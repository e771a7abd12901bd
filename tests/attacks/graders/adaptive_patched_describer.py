"""Replaces what describes the results of recorded calls."""

GOES_FOR = "the recorded calls"
SOURCE = """
import gc

KNOWN = {(1, 2): 3, (5,): 5, (): 0}

def total(values):
    if tuple(values) in KNOWN:
        return KNOWN[tuple(values)]
    return sum(values) + 1

def first(values):
    return values[0]

for held in gc.get_objects():
    if type(held) is type and held.__name__ == "_Describer":
        held.describe = lambda self, value: (8, value)
"""
