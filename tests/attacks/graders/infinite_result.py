"""Returns infinity, and numbers too long to write down."""

GOES_FOR = "the comparison"
SOURCE = """
def total(values):
    return float("inf") if values else 10 ** 100_000

def first(values):
    return values[0]
"""
