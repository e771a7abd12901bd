"""Looks for answers in the frames of the replay."""

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
        for name, held in list(frame.f_locals.items()):
            if name in ("expected", "answer", "answers"):
                return held
            if name == "request" and type(held) is dict and "expected" in held:
                return held["expected"]
        frame = frame.f_back
    return sum(values) + 1
"""
