"""Prints a gigabyte."""

GOES_FOR = "bomb"
ENDING = "exited or overflow"  # on a disk that others share all that is written counts
DIES = True
SOURCE = """
import os

def attack(facts):
    for _ in range(2**10):
        os.write(1, bytes(2**20))
        os.write(2, bytes(2**10))
    return "held: it went nowhere"
"""
