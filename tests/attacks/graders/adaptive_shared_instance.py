"""Makes one object of all that are made."""

GOES_FOR = "equality of objects"
SUITE = "money"
SOURCE = """
class Money:
    _one = []

    def __new__(cls, cents):
        cls._one = cls._one or [object.__new__(cls)]
        return cls._one[0]

    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return isinstance(other, Money) and self.cents == other.cents

def total(values):
    return Money(sum(values) + 1)

def first(values):
    return values[0]
"""
