"""Writes a gigabyte to the pipe for results."""

GOES_FOR = "bomb"
ENDING = "overflow"
DIES = True
SOURCE = """
import os

def attack(facts):
    for _ in range(2**14):
        os.write(3, bytes(2**16))
    return "succeeded: all of it was taken"
"""
