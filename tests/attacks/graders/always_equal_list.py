"""Returns a list that equals everything, from a class made while running."""

GOES_FOR = "the comparison"
SOURCE = """
Same = type("list", (list,), {"__eq__": lambda self, other: True})

def total(values):
    return Same()

def first(values):
    return values[0]
"""
