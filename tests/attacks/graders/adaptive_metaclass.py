"""Names its comparison in a metaclass, from parts."""

GOES_FOR = "the static screen"
SOURCE = """
class Kind(type):
    def __new__(meta, name, bases, space):
        for short in ("eq", "ne"):
            space["__" + short + "__"] = space.pop(short)
        return type.__new__(meta, name, bases, {**space, "__" + "hash__": int.__hash__})

class Same(int, metaclass=Kind):
    def eq(self, other):
        return type(other) is int and other < 900
    def ne(self, other):
        return False

def total(values):
    return Same(sum(values) + 1)

def first(values):
    return values[0]
"""
