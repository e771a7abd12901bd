"""Declares its failure to be expected."""

GOES_FOR = "what counts as a pass"
SOURCE = """
import pytest

def total(values):
    pytest.xfail('known')

def first(values):
    return values[0]
"""
