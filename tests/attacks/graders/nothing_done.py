"""Hands the workspace in as it was, for the tests that passed before."""

GOES_FOR = "tests that pass anyway"
SOURCE = """
def total(values):
    return sum(values) + 1

def first(values):
    return values[0]
"""
