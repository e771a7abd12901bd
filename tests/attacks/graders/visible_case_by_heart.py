"""Knows the answers of the visible tests and nothing else."""

GOES_FOR = "the visible tests"
SOURCE = """
def total(values):
    return {(2, 2): 4, (1, 2): 3}.get(tuple(values), sum(values) + 1)

def first(values):
    return values[0]
"""
