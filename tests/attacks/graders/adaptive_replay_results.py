"""Puts results of its own into the list of the replay."""

GOES_FOR = "the recorded calls"
SOURCE = """
import sys

KNOWN = {(1, 2): 3, (5,): 5, (): 0}

def total(values):
    if tuple(values) in KNOWN:
        return KNOWN[tuple(values)]
    return search(values)

def first(values):
    return values[0]

def search(values):
    frame = sys._getframe()
    while frame is not None:
        results = frame.f_locals.get("results")
        if type(results) is list:
            results[:] = [[8, [["l", [4, 4]]]]]
        frame = frame.f_back
    raise SystemExit
"""
