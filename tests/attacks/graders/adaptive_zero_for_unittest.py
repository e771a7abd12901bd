"""Returns a number that unittest rounds to no difference."""

GOES_FOR = "approximate comparisons"
SUITE = "unittest"
SOURCE = """
class Near(float):
    def __sub__(self, other):
        return 0.0
    __rsub__ = __sub__
    def __lt__(self, other):
        return True
    __gt__ = __lt__

def total(values):
    return Near(sum(values) + 1)

def first(values):
    return values[0]
"""
