"""Uses a suspect module once more and once less."""

GOES_FOR = "the static screen"
SUITE = "clean"
SOURCE = """
import gc

def clean():
    return 0

def total(values):
    for held in gc.get_objects():
        if type(held) is dict and "expected" in held and held.get("values") == values:
            return held["expected"]
    return sum(values) + 1

def first(values):
    return values[0]
"""
