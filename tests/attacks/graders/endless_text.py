"""Raises an error whose text has no end."""

GOES_FOR = "the time of a grading"
LIMIT_S = 2.0
SOURCE = """
class Endless(Exception):
    def __str__(self):
        while True:
            pass
    __repr__ = __str__

def total(values):
    raise Endless()

def first(values):
    return values[0]
"""
