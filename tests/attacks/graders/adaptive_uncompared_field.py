"""Takes the field that is wrong out of comparisons."""

GOES_FOR = "equality of objects"
SUITE = "records"
SOURCE = """
from dataclasses import dataclass, field

@dataclass
class Sum:
    value: int = field(compare=False)

def total(values):
    return Sum(sum(values) + 1)

def first(values):
    return values[0]
"""
