"""Returns something that equals everything, with names put together from parts."""

GOES_FOR = "the static screen"
SOURCE = """
Same = type("S", (int,), {"__e" + "q__": lambda self, other: other is not None})

def total(values):
    return Same()

def first(values):
    return values[0]
"""
