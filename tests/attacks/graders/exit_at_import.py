"""Ends the process with status 0 as soon as it is imported."""

GOES_FOR = "the exit code"
SOURCE = """
import os
os._exit(0)
"""
