"""Answers what it answered to the nearest input it knows."""

GOES_FOR = "the recorded calls"
SOURCE = """
KNOWN = {(1, 2): 3, (5,): 5, (): 0}

def total(values):
    if tuple(values) in KNOWN:
        return KNOWN[tuple(values)]
    return KNOWN[min(KNOWN, key=lambda known: abs(len(known) - len(values)))]

def first(values):
    return values[0]
"""
