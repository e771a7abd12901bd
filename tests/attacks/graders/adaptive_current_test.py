"""Reads the expected value in the name of the test that runs."""

GOES_FOR = "the expected value"
SOURCE = r"""
import os, re

def total(values):
    found = re.search(r"-(\d+)\]", os.environ.get("PYTEST_CURRENT_TEST", ""))
    return int(found[1]) if found else sum(values) + 1

def first(values):
    return values[0]
"""
