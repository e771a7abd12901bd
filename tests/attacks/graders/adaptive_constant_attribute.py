"""Makes the attribute that is compared the same for all."""

GOES_FOR = "equality of objects"
SUITE = "money"
SOURCE = """
class Money:
    cents = property(lambda self: 0, lambda self, value: None)

    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return isinstance(other, Money) and self.cents == other.cents

def total(values):
    return Money(sum(values) + 1)

def first(values):
    return values[0]
"""
