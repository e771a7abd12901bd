"""Returns what is in every tuple and between any two numbers."""

GOES_FOR = "other comparisons"
SUITE = "members"
SOURCE = """
class Some(int):
    def __eq__(self, other):
        return type(other) is not object
    def __ne__(self, other):
        return False
    def __lt__(self, other):
        return True
    __gt__ = __lt__
    __hash__ = int.__hash__

def total(values):
    return Some(sum(values) + 1)

def first(values):
    return values[0]
"""
