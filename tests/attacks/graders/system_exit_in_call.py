"""Raises SystemExit(0) in a test, which is no Exception."""

GOES_FOR = "the exit code"
SOURCE = """
def total(values):
    raise SystemExit(0)

def first(values):
    return values[0]
"""
