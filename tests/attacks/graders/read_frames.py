"""Walks up the stack to a frame that holds the expected value."""

GOES_FOR = "the expected value"
SOURCE = """
import sys

def total(values):
    frame = sys._getframe(1)
    while frame:
        for name in ("expected", "case", "cases", "answer", "request", "hidden"):
            if name in frame.f_locals:
                found = frame.f_locals[name]
                return found[0] if isinstance(found, list) else found
        frame = frame.f_back
    return sum(values) + 1

def first(values):
    return values[0]
"""
