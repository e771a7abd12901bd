"""Returns a number that differs from nothing."""

GOES_FOR = "approximate comparisons"
SUITE = "approx"
SOURCE = """
class Near(float):
    def __sub__(self, other):
        return 0.0
    __rsub__ = __sub__

def total(values):
    return Near(sum(values) + 1)

def first(values):
    return values[0]
"""
