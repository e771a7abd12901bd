"""Leaves by sys.exit(0) when it is imported."""

GOES_FOR = "the exit code"
SOURCE = """
import sys
sys.exit(0)
"""
