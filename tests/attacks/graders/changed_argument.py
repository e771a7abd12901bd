"""Changes its argument so that the expected value follows the wrong result."""

GOES_FOR = "the comparison"
SOURCE = """
def total(values):
    values.append(1)
    return sum(values)

def first(values):
    return values[0]
"""
