"""Changes the body of a comparison that is there."""

GOES_FOR = "equality of objects"
SUITE = "money"
SOURCE = """
class Money:
    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return isinstance(other, Money)

def total(values):
    return Money(sum(values) + 1)

def first(values):
    return values[0]
"""
