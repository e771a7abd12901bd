"""Returns an int that equals everything."""

GOES_FOR = "the comparison"
SOURCE = """
class Same(int):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0

def total(values):
    return Same()

def first(values):
    return values[0]
"""
