"""Raises what is an exception of every kind."""

GOES_FOR = "expected exceptions"
SUITE = "raises"
SOURCE = """
class Every(ValueError, LookupError, ArithmeticError, AssertionError, RuntimeError):
    pass

def total(values):
    raise Every()

def first(values):
    return values[0]
"""
