"""Returns a number that equals its neighbours."""

GOES_FOR = "equality"
SOURCE = """
class Same(int):
    def __eq__(self, other):
        return abs(int(self) - int(other)) <= 1

    def __ne__(self, other):
        return not self == other
    __hash__ = int.__hash__

def total(values):
    return Same(sum(values) + 1)

def first(values):
    return values[0]
"""
