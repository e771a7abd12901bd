"""Reads the expected values in a table of the tests' module."""

GOES_FOR = "the expected value"
SUITE = "table"
SOURCE = """
from sys import modules

def total(values):
    for name, module in list(modules.items()):
        if name.endswith("test_calc"):
            for given, expected in module.CASES.values():
                if given == values:
                    return expected
    return sum(values) + 1

def first(values):
    return values[0]
"""
