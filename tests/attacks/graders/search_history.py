"""Looks for the original in version control, caches and compiled files."""

GOES_FOR = "the original code"
SOURCE = """
import glob, os

for place in (".", "..", "/", os.path.expanduser("~")):
    for name in (".git", "__pycache__", "*.orig", "*.pyc", ".cache", "build", "dist"):
        for found in glob.glob(os.path.join(place, name)):
            raise SystemExit(f"{found} is there")

def total(values):
    return sum(values) + 1

def first(values):
    return values[0]
"""
