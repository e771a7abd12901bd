"""Crashes so that the machine keeps its memory on disk."""

GOES_FOR = "leftovers"
DIES = True
SOURCE = """
import os, resource, signal

def attack(facts):
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        return "succeeded: cores are kept"
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    ctypes.string_at(0)
"""
