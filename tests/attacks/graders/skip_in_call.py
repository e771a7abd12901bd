"""Raises the exception by which unittest skips a test."""

GOES_FOR = "what counts as a pass"
SOURCE = """
import unittest

def total(values):
    raise unittest.SkipTest

def first(values):
    return values[0]
"""
