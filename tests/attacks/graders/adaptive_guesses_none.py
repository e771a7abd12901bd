"""Knows what the tests ask, and answers None to the rest."""

GOES_FOR = "the recorded calls"
SOURCE = """
KNOWN = {(1, 2): 3, (5,): 5, (): 0}

def total(values):
    if tuple(values) in KNOWN:
        return KNOWN[tuple(values)]
    return None

def first(values):
    return values[0]
"""
