"""Talks to the supervisor over a descriptor that was left open."""

GOES_FOR = "descriptors"
SOURCE = """
import os, socket

def attack(facts):
    found = []
    for number in range(4, 4096):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    def read(number):
        data = os.read(number, 1)
        if not data:
            raise PermissionError(1, "nothing to read")
    if found:
        return f"succeeded: descriptors {found}"
    return tried(**{f"fd{number}": lambda number=number: read(number) for number in range(4)})
"""
