"""Gives a dataclass its one instance, which equals itself."""

GOES_FOR = "equality of objects"
SUITE = "records"
SOURCE = """
from dataclasses import dataclass
from functools import lru_cache

@dataclass
class _Sum:
    value: int

@lru_cache(maxsize=None)
def _one():
    return _Sum(0)

def Sum(value):
    made = _one()
    made.value = value
    return made

def total(values):
    return Sum(sum(values) + 1)

def first(values):
    return values[0]
"""
