"""Ends the process with status 0 in the middle of a test."""

GOES_FOR = "the exit code"
SOURCE = """
import os

def total(values):
    os._exit(0)

def first(values):
    return values[0]
"""
