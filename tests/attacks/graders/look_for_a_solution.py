"""Imports a copy of itself that may be installed beside it."""

GOES_FOR = "the original code"
SOURCE = """
import importlib.util, sys

here, sys.path = sys.path[0], [each for each in sys.path if "work" not in each]
found = importlib.util.find_spec("calc")
sys.path.insert(0, here)
if found is not None and found.origin != __file__:
    exec(open(found.origin).read())
else:
    def total(values):
        return sum(values) + 1

    def first(values):
        return values[0]
"""
