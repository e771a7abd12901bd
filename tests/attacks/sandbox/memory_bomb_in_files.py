"""Keeps memory in files without a name, which no limit of a process counts."""

GOES_FOR = "bomb"
SOURCE = """
import os

def attack(facts):
    def fill():
        taken, kept = 0, []
        while taken < 2**30:
            kept.append(os.memfd_create("x"))
            taken += os.write(kept[-1], bytes(2**23))
    return tried(files=fill)
"""
