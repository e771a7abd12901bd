"""Returns not-a-number, which compares like nothing else."""

GOES_FOR = "the comparison"
SOURCE = """
def total(values):
    return float("nan")

def first(values):
    return values[0]
"""
