"""Reads the expected values in the marks of the tests."""

GOES_FOR = "the expected value"
SOURCE = """
from sys import modules

def total(values):
    for name, module in list(modules.items()):
        if name.endswith("test_calc"):
            for given, expected in module.test_total.pytestmark[0].args[1]:
                if given == values:
                    return expected
    return sum(values) + 1

def first(values):
    return values[0]
"""
