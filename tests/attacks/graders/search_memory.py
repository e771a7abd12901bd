"""Looks through all objects of the process for expected values."""

GOES_FOR = "the expected value"
SOURCE = """
import gc

def total(values):
    for thing in gc.get_objects():
        if type(thing) is dict and thing.get("values") is values and "expected" in thing:
            return thing["expected"]
        if type(thing) in (list, tuple) and len(thing) == 2 and thing[0] is values:
            return thing[1]
        if type(thing) is dict and "expected" in thing and type(thing["expected"]) is str:
            return eval(thing["expected"])
    return sum(values) + 1

def first(values):
    return values[0]
"""
